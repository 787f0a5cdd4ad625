//! What must hold for any bytes whatsoever; also the body of a fuzz target.

use krono_core::drop::DropReason;
use krono_core::time::Moment;
use scr_sequencer::Shipped;
use scr_sequencer::wire::{Codec, Format, LINK_BYTES, Variant};

/// How many bytes of the input choose the format and the number expected.
pub(crate) const PARAMETERS_LEN: usize = 10;

/// A frame is dropped for its header, or carries what can be written and read again.
pub(crate) fn scr_wire(input: &[u8]) {
    let Some((parameters, bytes)) = input.split_first_chunk::<PARAMETERS_LEN>() else { return };
    let [flags, cores, expected @ ..] = *parameters;
    let is_set = |bit: u8| flags & 1 << bit != 0;
    let format = Format {
        variant: if is_set(0) { Variant::Ring } else { Variant::Shift },
        cores: usize::from(cores) + 1,
        sequence: is_set(1),
        moment: is_set(2),
        padding: None,
    };
    let expected = u64::from_le_bytes(expected);
    match flags >> 3 & 3 {
        0 => of_records::<[u8; 4]>(format, bytes, expected),
        1 => of_records::<[u8; 8]>(format, bytes, expected),
        2 => of_records::<[u8; 18]>(format, bytes, expected),
        _ => of_records::<[u8; 30]>(format, bytes, expected),
    }
}

fn of_records<R: Shipped>(format: Format, bytes: &[u8], expected: u64) {
    let codec = Codec::<R>::new(format).expect("all of these are short enough");
    let carried = match codec.decode(bytes, expected) {
        Ok(carried) => carried,
        Err(reason) => {
            assert_eq!(reason, DropReason::ScrHeaderBad);
            return;
        }
    };
    let before = carried.sequence - 1;
    assert_eq!(carried.history.len() as u64, before.min(format.cores as u64 - 1));
    if !format.sequence {
        assert_eq!(carried.sequence, expected.max(1));
    }
    if !format.moment {
        assert_eq!(carried.moment, Moment(0));
    }
    let link = bytes.first_chunk::<LINK_BYTES>().expect("it is in the header");
    let mut header = vec![0xee; codec.header_len()];
    codec.encode(link, &carried, &mut header);
    let again = codec.decode(&header, carried.sequence).expect("it was just written");
    assert_eq!((again.sequence, again.moment), (carried.sequence, carried.moment));
    assert!(again.history.iter().eq(carried.history.iter()));
}
