//! The body of the fuzz target `take`, over random frames and changed ones.

mod bodies;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes(data in vec(any::<u8>(), 0..200)) {
        bodies::take(&data);
    }

    /// Headers that look like ours, and anything behind them.
    #[test]
    fn likely_frames(
        side: bool,
        protocol in prop_oneof![Just(1_u8), Just(6), Just(17), any::<u8>()],
        rest in vec(any::<u8>(), 38..120),
    ) {
        let mut data = vec![u8::from(side), 2, 0, 0, 0, 0, 1 + u8::from(side), 2, 0, 0, 0, 0, 9, 8, 0];
        let len = 20 + rest.len() as u16 - 12;
        data.extend([0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0, 0, 64, protocol, 0, 0]);
        data.extend(&rest[4..]);
        let sum: u32 = data[15..35].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        data[25..27].copy_from_slice(&sum.to_be_bytes());
        bodies::take(&data);
    }

    /// A frame of the share's own with some bits turned.
    #[test]
    fn changed_frames(side: bool, changes in vec((0_usize..110, any::<u8>()), 1..4)) {
        let mut data = vec![0; 111];
        data[0] = 2 | u8::from(side);
        for (at, mask) in changes {
            data[1 + at] ^= mask;
        }
        bodies::take(&data);
    }
}
