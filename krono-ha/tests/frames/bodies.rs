//! What must hold for any bytes whatsoever; also the body of a fuzz target.

use krono_ha::frame::{Codec, FRAME_MAX, HEADER_LEN, Key, Rejected, TAG_LEN};

/// A record of the size that a translator's has.
pub(crate) type Record = [u8; 32];

/// Frames from node 2 to node 1.
pub(crate) fn codec() -> Codec {
    Codec::new::<Record>(Key::new(&[7; 32]), 0x1234, 5, 1, 2)
}

/// The bytes with a digest behind them that is right.
pub(crate) fn signed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    frame.extend(codec().digest_of(bytes));
    frame
}

/// A frame is refused for a reason, as it is and with a right digest behind it; or it can be
/// written again as it was.
pub(crate) fn frame(input: &[u8]) {
    let codec = codec();
    if let Ok((header, body)) = codec.open(input) {
        assert_eq!(written(&codec, header, body), input);
    }
    let signed = signed(input);
    match codec.open(&signed) {
        Ok((header, body)) => {
            assert_eq!(signed.len(), HEADER_LEN + body.len() + TAG_LEN);
            // What the peer would write is what it has written.
            assert_eq!(header.node(), 2);
            let _ = (header.kind(), header.role());
        }
        Err(Rejected::Length(len)) => {
            assert!(len == signed.len() && !(HEADER_LEN + TAG_LEN..=FRAME_MAX).contains(&len));
        }
        Err(reason) => {
            assert_ne!(reason, Rejected::Digest);
            assert_eq!(Rejected::NAMES[reason.index()], reason.name());
        }
    }
}

fn written(codec: &Codec, header: &krono_ha::frame::Header, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; FRAME_MAX];
    let len = codec.peer().seal(*header, body, &mut out);
    out.truncate(len);
    out
}
