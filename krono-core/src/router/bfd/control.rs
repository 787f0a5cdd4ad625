//! The BFD Control packet (RFC 5880, 4.1) as bytes and as a value.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//! |                       My Discriminator                        |
//! |                      Your Discriminator                       |
//! |                    Desired Min TX Interval                    |
//! |                   Required Min RX Interval                    |
//! |                 Required Min Echo RX Interval                 |
//! ```
//! An authentication section may follow; intervals are microseconds.

use std::fmt;

use crate::drop::DropReason;
use crate::parse::bytes_at;

/// The length of a packet without an authentication section, bytes.
pub const CONTROL_LEN: usize = 24;

/// The shortest packet with an authentication section, bytes.
const AUTHENTICATED_LEN_MIN: usize = 26;

const VERSION: u8 = 1;

// The bits of the second byte below the state.
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// The state of a session, as it is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Held down by its operator.
    AdminDown = 0,
    /// Nothing is heard, or the other end does not hear us.
    #[default]
    Down = 1,
    /// The other end is heard and has not yet said that it hears us.
    Init = 2,
    /// Both ends hear each other.
    Up = 3,
}

impl State {
    /// All of them, in the order of their codes.
    pub const ALL: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

    /// The name on screen.
    pub const fn name(self) -> &'static str {
        match self {
            State::AdminDown => "admin_down",
            State::Down => "down",
            State::Init => "init",
            State::Up => "up",
        }
    }

    /// The state with this code, of which the two lowest bits count.
    pub const fn from_bits(code: u8) -> Self {
        State::ALL[(code & 3) as usize]
    }
}

/// Why a session's state changed last (RFC 5880, 4.1): 0 to 31, of which 9 and above are not
/// assigned but may be received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing has happened yet.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// Nothing was heard for the detection time.
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// The other end said that it is down.
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    /// Whoever forwards packets here is going away, or has come anew.
    pub const FORWARDING_PLANE_RESET: Diagnostic = Diagnostic(4);
    /// The operator wants it.
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);

    /// That with this code, of which the five lowest bits count.
    pub const fn from_bits(code: u8) -> Self {
        Diagnostic(code & 0x1f)
    }

    /// The code.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// A few words for people, after RFC 5880.
    pub const fn describe(self) -> &'static str {
        match self.0 {
            0 => "no diagnostic",
            1 => "detection time expired",
            2 => "echo function failed",
            3 => "neighbour signaled down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            _ => "unassigned diagnostic",
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

/// What a BFD Control packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Why the sender's state changed last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// It asks for an answer at once.
    pub poll: bool,
    /// It is that answer.
    pub is_final: bool,
    /// The sender's BFD does not share the fate of its control plane.
    pub control_plane_independent: bool,
    /// An authentication section follows.
    pub authenticated: bool,
    /// The sender wishes no periodic packets once both ends are up.
    pub demand: bool,
    /// So many of the sender's packets may be missed; not 0.
    pub multiplier: u8,
    /// The sender's name for the session; not 0.
    pub my_discriminator: u32,
    /// The receiver's name for it, 0 if the sender does not know it.
    pub your_discriminator: u32,
    /// The sender would send a packet in so many microseconds, no sooner.
    pub desired_tx_us: u32,
    /// The sender can take a packet in so many microseconds; 0: it wants none.
    pub required_rx_us: u32,
    /// The same of Echo packets; 0: it does not support them.
    pub required_echo_us: u32,
}

impl Control {
    /// Reads the payload of a UDP datagram: the checks of RFC 5880, 6.8.6 that need nothing but the
    /// packet, in their order.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn parse(payload: &[u8]) -> Result<Control, DropReason> {
        let &[first, second, multiplier, len, ..] = payload else {
            return Err(DropReason::BfdLenBad);
        };
        if first >> 5 != VERSION {
            return Err(DropReason::BfdVersionBad);
        }
        let authenticated = second & AUTHENTICATION != 0;
        let len_min = if authenticated { AUTHENTICATED_LEN_MIN } else { CONTROL_LEN };
        if usize::from(len) < len_min || usize::from(len) > payload.len() {
            return Err(DropReason::BfdLenBad);
        }
        if multiplier == 0 {
            return Err(DropReason::BfdMultiplierZero);
        }
        if second & MULTIPOINT != 0 {
            return Err(DropReason::BfdMultipoint);
        }
        let word = |at| u32::from_be_bytes(bytes_at(payload, at));
        if word(4) == 0 {
            return Err(DropReason::BfdDiscriminatorZero);
        }
        Ok(Control {
            diagnostic: Diagnostic::from_bits(first),
            state: State::from_bits(second >> 6),
            poll: second & POLL != 0,
            is_final: second & FINAL != 0,
            control_plane_independent: second & CONTROL_PLANE_INDEPENDENT != 0,
            authenticated,
            demand: second & DEMAND != 0,
            multiplier,
            my_discriminator: word(4),
            your_discriminator: word(8),
            desired_tx_us: word(12),
            required_rx_us: word(16),
            required_echo_us: word(20),
        })
    }

    /// The packet as bytes, without an authentication section.
    pub fn to_bytes(&self) -> [u8; CONTROL_LEN] {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let mut bytes = [0; CONTROL_LEN];
        bytes[0] = VERSION << 5 | self.diagnostic.0;
        bytes[1] = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        bytes[2] = self.multiplier;
        bytes[3] = CONTROL_LEN as u8;
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_tx_us,
            self.required_rx_us,
            self.required_echo_us,
        ];
        for (field, word) in bytes[4..].as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *field = word.to_be_bytes();
        }
        bytes
    }
}
