//! The TCP state machine of a session: RFC 7857 section 2, after RFC 6146 section 3.5.2.
//!
//! A translator follows a connection only to know how long to keep it. It never drops a segment
//! of a session for its state: RFC 7857, 2.2 has every segment translated that matches a mapping.
//!
//! Whoever guesses the endpoints can send segments from outside, so those end nothing unless they
//! fit what the inside has said. Numbers are learnt from the inside alone; what an outside segment
//! claims holds only until the inside has acknowledged something.

use krono_core::packet::{Side, TcpFlags, TcpMeta};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// SYN from inside seen, none from outside ("V6 INIT").
    OpeningInside = 1,
    /// SYN from outside seen, none from inside ("V4 INIT").
    OpeningOutside = 2,
    /// SYN seen from both.
    Established = 3,
    /// FIN from inside seen.
    FinInside = 4,
    /// FIN from outside seen.
    FinOutside = 5,
    /// FIN seen from both.
    FinBoth = 6,
    /// A valid RST seen, and no data since ("TRANS").
    Reset = 7,
}

impl State {
    fn opening(from: Side) -> State {
        match from {
            Side::Inside => State::OpeningInside,
            Side::Outside => State::OpeningOutside,
        }
    }

    fn finished(from: Side) -> State {
        match from {
            Side::Inside => State::FinInside,
            Side::Outside => State::FinOutside,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<State> {
        Some(match byte {
            1 => State::OpeningInside,
            2 => State::OpeningOutside,
            3 => State::Established,
            4 => State::FinInside,
            5 => State::FinOutside,
            6 => State::FinBoth,
            7 => State::Reset,
            _ => return None,
        })
    }

    /// The name on screen.
    pub const fn name(self) -> &'static str {
        match self {
            State::OpeningInside => "syn_sent",
            State::OpeningOutside => "syn_received",
            State::Established => "established",
            State::FinInside => "fin_inside",
            State::FinOutside => "fin_outside",
            State::FinBoth => "closing",
            State::Reset => "reset",
        }
    }

    /// Whether the session is on its way out, so that a SYN opens it anew.
    const fn is_closing(self) -> bool {
        matches!(self, State::FinBoth | State::Reset)
    }
}

/// A connection as a session stores it: 16 bytes, all zero for other transports.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub(crate) struct Connection {
    /// The sequence number that the inside expects next.
    expects: u32,
    /// The one behind all that the inside has sent.
    sent: u32,
    /// What the inside last offered, as on the wire.
    window: u16,
    /// Window scales of both SYNs, one more than in the option; 0 if there was none.
    scale: [u8; 2],
    /// A [`State`], with [`ADOPTED`] or without.
    state: u8,
    /// How `expects` is known: not at all, or one of the constants below.
    known: u8,
    reserved: [u8; 2],
}

/// Another server followed the connection so far, and numbers have moved on since it told of them.
/// So no segment is steady before the inside has told them.
const ADOPTED: u8 = 0x80;

/// The number after a SYN from outside: anybody's claim.
const CLAIMED: u8 = 1;

/// The inside has acknowledged up to here.
const TOLD: u8 = 2;

/// No window is larger (RFC 7323, 2.3).
const WINDOW_MAX: u32 = 1 << 30;

/// What a segment means for a session's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Life in the connection: its time begins anew.
    Restart,
    /// Nothing that should keep the connection alive.
    Keep,
    /// The connection just ended: its time is now the closing one.
    Shorten,
}

impl Connection {
    /// The connection that begins with `syn`.
    pub(crate) fn open(from: Side, syn: &TcpMeta) -> Connection {
        let mut connection = Connection::default();
        connection.reopen(from, syn);
        connection
    }

    /// A connection that another server has followed up to `state`; `sent` is where the inside was
    /// when it came there.
    pub(crate) fn adopted(state: State, scale: [u8; 2], sent: u32) -> Connection {
        Connection { state: state as u8 | ADOPTED, scale, sent, ..Connection::default() }
    }

    pub(crate) fn state(&self) -> Option<State> {
        State::from_byte(self.state & !ADOPTED)
    }

    /// What [`Connection::adopted`] wants besides the state.
    pub(crate) fn numbers(&self) -> ([u8; 2], u32) {
        (self.scale, self.sent)
    }

    fn set_state(&mut self, state: State) {
        self.state = self.state & ADOPTED | state as u8;
    }

    /// Takes one segment from `from` and says what it means for the timer.
    pub(crate) fn advance(&mut self, from: Side, segment: &TcpMeta) -> Timer {
        let Some(state) = self.state() else { return Timer::Keep };
        if self.state & ADOPTED != 0 && from == Side::Inside {
            (self.sent, self.known, self.state) = (end_of(segment), 0, state as u8);
        }
        let flags = segment.flags;
        if flags.has(TcpFlags::RST) {
            return self.reset(state, from, segment);
        }
        if flags.has(TcpFlags::SYN) {
            return self.synchronise(state, from, segment);
        }
        if from == Side::Inside {
            self.learn(segment);
        }
        if flags.has(TcpFlags::FIN) && self.takes_fin(from, segment) {
            self.finish(state, from)
        } else {
            self.carry(state)
        }
    }

    /// Whether a segment is one of those that a connection mostly consists of: it changes nothing
    /// but the numbers, which [`Connection::note_steady`] then learns.
    #[inline(always)]
    pub(crate) fn is_steady(&self, segment: &TcpMeta) -> bool {
        const TURNS: TcpFlags = TcpFlags::SYN.with(TcpFlags::FIN).with(TcpFlags::RST);
        self.state == State::Established as u8 && !segment.flags.has(TURNS)
    }

    /// [`Connection::advance`] for a steady segment from inside, whose time begins anew.
    #[inline(always)]
    pub(crate) fn note_steady(&mut self, segment: &TcpMeta) {
        self.learn(segment);
    }

    fn reopen(&mut self, from: Side, syn: &TcpMeta) {
        *self = Connection { state: State::opening(from) as u8, ..Connection::default() };
        self.note_syn(from, syn);
    }

    /// RFC 7857, 2.2: only a RST that belongs to the connection ends it, lest an off-path
    /// attacker who guesses the endpoints could.
    fn reset(&mut self, state: State, from: Side, segment: &TcpMeta) -> Timer {
        if state.is_closing() || !self.takes_reset(from, segment) {
            return Timer::Keep;
        }
        self.set_state(State::Reset);
        Timer::Shorten
    }

    fn synchronise(&mut self, state: State, from: Side, syn: &TcpMeta) -> Timer {
        let fresh = !syn.flags.has(TcpFlags::ACK);
        match state {
            // A new connection between the same endpoints, e.g. over TIME-WAIT (RFC 6191).
            _ if state.is_closing() && fresh => self.reopen(from, syn),
            State::OpeningInside | State::OpeningOutside => {
                self.note_syn(from, syn);
                // The second SYN may be a SYN-ACK or that of a simultaneous open.
                if state != State::opening(from) {
                    self.set_state(State::Established);
                }
            }
            // The second half of a simultaneous open, or a retransmission of it.
            _ if !fresh => self.note_syn(from, syn),
            // A retransmission, an end that starts anew, or a forgery: what lives goes on.
            _ => {
                self.note_syn(from, syn);
                return Timer::Keep;
            }
        }
        Timer::Restart
    }

    fn finish(&mut self, state: State, from: Side) -> Timer {
        match state {
            State::Established => self.set_state(State::finished(from)),
            State::FinInside | State::FinOutside if state != State::finished(from) => {
                self.set_state(State::FinBoth);
                return Timer::Shorten;
            }
            State::FinBoth | State::Reset => return Timer::Keep,
            _ => {}
        }
        Timer::Restart
    }

    fn carry(&mut self, state: State) -> Timer {
        match state {
            // The last acknowledgements of a connection do not keep it alive.
            State::FinBoth => return Timer::Keep,
            // The RST was lost or refused by its receiver: the connection goes on.
            State::Reset => self.set_state(State::Established),
            _ => {}
        }
        Timer::Restart
    }

    /// Whether a RST belongs to the connection. From outside: the inside would take it, because
    /// its number lies in the window (RFC 9293, 3.10.7.4) or it refuses a SYN by acknowledging it
    /// (3.10.7.3). From inside: its number is one that the inside has sent lately, or the 0 of an
    /// end that refuses a SYN and has sent nothing.
    fn takes_reset(&self, from: Side, segment: &TcpMeta) -> bool {
        match (from, self.known) {
            (Side::Inside, _) => self.sent.wrapping_sub(segment.seq) <= WINDOW_MAX,
            (Side::Outside, CLAIMED | TOLD) => self.is_in_window(segment.seq),
            (Side::Outside, _) => segment.flags.has(TcpFlags::ACK) && segment.ack == self.sent,
        }
    }

    /// Whether a FIN belongs to the connection. Else a forged one would have the inside's half
    /// closing cut the connection short.
    fn takes_fin(&self, from: Side, segment: &TcpMeta) -> bool {
        let fin = segment.seq.wrapping_add(segment.payload_len.into());
        from == Side::Inside || self.known == 0 || self.is_in_window(fin)
    }

    /// Whether this number from outside lies in the window that the inside has offered. A scale
    /// counts only if both ends sent one (RFC 7323, 2.2).
    fn is_in_window(&self, number: u32) -> bool {
        let shift = if self.scale.contains(&0) { 0 } else { self.scale[Side::Inside as usize] - 1 };
        number.wrapping_sub(self.expects) <= u32::from(self.window) << shift
    }

    /// Learns from a segment of the inside.
    #[inline(always)]
    fn learn(&mut self, segment: &TcpMeta) {
        let end = end_of(segment);
        if is_ahead(end, self.sent) {
            self.sent = end;
        }
        let is_news = self.known != TOLD || is_ahead(segment.ack, self.expects);
        if segment.flags.has(TcpFlags::ACK) && is_news {
            self.expects = segment.ack;
            self.window = segment.window;
            self.known = TOLD;
        }
    }

    /// Learns from a SYN or SYN-ACK of the inside, or believes one of the outside for now.
    fn note_syn(&mut self, from: Side, syn: &TcpMeta) {
        let shift = syn.window_scale.min(14);
        let has_scale = syn.window_scale != TcpMeta::NO_SCALE;
        let scale = if has_scale { shift + 1 } else { 0 };
        match from {
            Side::Inside => {
                // Perhaps an end that starts anew: what it acknowledges next is news anyway.
                self.known = self.known.min(CLAIMED);
                self.sent = end_of(syn);
                self.learn(syn);
                // The window of a SYN itself is never scaled.
                self.window = if has_scale { syn.window.div_ceil(1 << shift) } else { syn.window };
            }
            Side::Outside if self.known == TOLD => return,
            Side::Outside => {
                self.expects = syn.seq.wrapping_add(1);
                self.known = CLAIMED;
            }
        }
        self.scale[from as usize] = scale;
    }
}

/// The sequence number behind a segment; a SYN and a FIN have one each.
fn end_of(segment: &TcpMeta) -> u32 {
    let flags = segment.flags;
    let marks = u32::from(flags.has(TcpFlags::SYN)) + u32::from(flags.has(TcpFlags::FIN));
    segment.seq.wrapping_add(u32::from(segment.payload_len) + marks)
}

fn is_ahead(number: u32, of: u32) -> bool {
    number.wrapping_sub(of) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Inside, Outside};

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const FIN: TcpFlags = TcpFlags(0x11);
    const RST: TcpFlags = TcpFlags::RST;

    fn segment(flags: TcpFlags, seq: u32, ack: u32) -> TcpMeta {
        TcpMeta { flags, seq, ack, window: 1000, payload_len: 0, window_scale: TcpMeta::NO_SCALE }
    }

    /// A connection opened from inside: 100 is the client's first number, 500 the server's.
    fn established() -> Connection {
        let mut connection = Connection::open(Inside, &segment(SYN, 100, 0));
        connection.advance(Outside, &segment(SYN.with(ACK), 500, 101));
        connection.advance(Inside, &segment(ACK, 101, 501));
        assert_eq!(connection.state(), Some(State::Established));
        connection
    }

    /// What another server told of a connection is old when this one takes it over.
    #[test]
    fn an_adopted_connection_learns_its_numbers_from_the_inside() {
        let scales = [1, 8];
        let adopted = Connection::adopted(State::Established, scales, 4_000_000_000);
        assert_eq!(adopted.state(), Some(State::Established));
        assert!(!adopted.is_steady(&segment(ACK, 7, 9)), "nothing is known of its numbers");
        let mut connection = adopted;
        // A reset that nobody can have guessed may still be refused, a forged one must be.
        assert_eq!(connection.advance(Outside, &segment(RST, 9, 0)), Timer::Keep);
        assert_eq!(connection.advance(Outside, &segment(ACK, 9, 7)), Timer::Restart);
        assert!(!connection.is_steady(&segment(ACK, 7, 9)));
        assert_eq!(connection.advance(Inside, &segment(ACK, 7, 9)), Timer::Restart);
        assert!(connection.is_steady(&segment(ACK, 7, 9)));
        assert_eq!(connection.numbers(), (scales, 7));
        assert_eq!(connection.advance(Outside, &segment(RST, 9, 0)), Timer::Shorten);
        // The inside may end it at once, wherever its numbers are.
        let mut connection = adopted;
        assert_eq!(connection.advance(Inside, &segment(RST, 1_000_000_000, 0)), Timer::Shorten);
        // A state that the outside changes does not make the numbers known.
        let mut connection = adopted;
        assert_eq!(connection.advance(Outside, &segment(FIN, 9, 7)), Timer::Restart);
        assert_eq!(connection.state(), Some(State::FinOutside));
        connection.advance(Inside, &segment(ACK, 1_000_000_000, 10));
        assert_eq!(connection.numbers(), (scales, 1_000_000_000));
    }

    #[test]
    fn rfc5382_req2_three_way_handshake_from_either_side() {
        established();
        let mut inbound = Connection::open(Outside, &segment(SYN, 9, 0));
        assert_eq!(inbound.state(), Some(State::OpeningOutside));
        inbound.advance(Inside, &segment(SYN.with(ACK), 7, 10));
        assert_eq!(inbound.state(), Some(State::Established));
    }

    #[test]
    fn rfc5382_req2a_simultaneous_open() {
        let mut connection = Connection::open(Inside, &segment(SYN, 100, 0));
        connection.advance(Outside, &segment(SYN, 500, 0));
        assert_eq!(connection.state(), Some(State::Established));
        connection.advance(Inside, &segment(SYN.with(ACK), 100, 501));
        assert_eq!(connection.advance(Outside, &segment(ACK, 501, 101)), Timer::Restart);
        assert_eq!(connection.state(), Some(State::Established));
    }

    #[test]
    fn rfc7857_s2_half_close_lives_and_both_fins_close() {
        let mut connection = established();
        assert_eq!(connection.advance(Inside, &segment(FIN, 101, 501)), Timer::Restart);
        assert_eq!(connection.state(), Some(State::FinInside));
        assert_eq!(connection.advance(Outside, &segment(ACK, 501, 102)), Timer::Restart);
        assert_eq!(connection.advance(Inside, &segment(FIN, 101, 501)), Timer::Restart);
        assert_eq!(connection.advance(Outside, &segment(FIN, 501, 102)), Timer::Shorten);
        assert_eq!(connection.state(), Some(State::FinBoth));
        assert_eq!(connection.advance(Inside, &segment(ACK, 102, 502)), Timer::Keep);
        assert_eq!(connection.advance(Inside, &segment(FIN, 101, 501)), Timer::Keep);
    }

    #[test]
    fn rfc7857_s2_2_only_a_reset_that_fits_ends_a_connection() {
        let (window, sent) = (501, 101);
        for (from, stray) in [
            (Outside, window + 1001),
            (Outside, window - 1),
            (Outside, window + (1 << 31)),
            (Inside, sent + 1),
            (Inside, sent + (1 << 31)),
        ] {
            let mut connection = established();
            assert_eq!(connection.advance(from, &segment(RST, stray, 0)), Timer::Keep);
            assert_eq!(connection.state(), Some(State::Established), "{from} {stray}");
        }
        for (from, real) in
            [(Outside, window), (Outside, window + 1000), (Inside, sent), (Inside, sent - 1)]
        {
            let mut connection = established();
            assert_eq!(connection.advance(from, &segment(RST, real, 0)), Timer::Shorten);
            assert_eq!(connection.state(), Some(State::Reset));
        }
    }

    #[test]
    fn forged_acknowledgements_do_not_have_real_resets_refused() {
        for forged in [101 + (1 << 30), (1 << 31) + 7, 7] {
            for flags in [ACK, SYN.with(ACK), FIN] {
                for (from, real) in [(Inside, 101), (Outside, 501)] {
                    let mut connection = established();
                    connection.advance(Outside, &segment(flags, 77_000, forged));
                    let reset = connection.advance(from, &segment(RST, real, 0));
                    assert_eq!(reset, Timer::Shorten, "{from} {forged} {flags:?}");
                }
            }
        }
    }

    #[test]
    fn a_forged_fin_does_not_let_a_half_close_end_the_connection() {
        let mut connection = established();
        let fin = |seq, payload_len| TcpMeta { payload_len, ..segment(FIN, seq, 101) };
        for forged in [fin(500, 0), fin(501, 1001), fin(1502, 0), fin(7, 9)] {
            assert_eq!(connection.advance(Outside, &forged), Timer::Restart);
            assert_eq!(connection.state(), Some(State::Established), "{forged:?}");
        }
        connection.advance(Inside, &segment(FIN, 101, 501));
        assert_eq!(connection.state(), Some(State::FinInside));
        assert_eq!(connection.advance(Outside, &fin(501, 1000)), Timer::Shorten);
        assert_eq!(connection.state(), Some(State::FinBoth));
    }

    #[test]
    fn the_latest_syn_of_the_inside_is_the_one_that_counts() {
        let mut connection = Connection::open(Inside, &segment(SYN, 100, 0));
        connection.advance(Inside, &segment(SYN, 1 << 31, 0));
        let mut refused = connection;
        let refusal = |ack| segment(RST.with(ACK), 0, ack);
        assert_eq!(refused.advance(Outside, &refusal(101)), Timer::Keep);
        assert_eq!(refused.advance(Outside, &refusal((1 << 31) + 1)), Timer::Shorten);
        // An end that starts anew in a connection that lives is followed as well.
        let mut connection = established();
        connection.advance(Inside, &segment(SYN, 1 << 31, 0));
        connection.advance(Outside, &segment(SYN.with(ACK), 1 << 31, (1 << 31) + 1));
        connection.advance(Inside, &segment(ACK, (1 << 31) + 1, (1 << 31) + 1));
        for (from, real) in [(Inside, (1 << 31) + 1), (Outside, (1 << 31) + 1)] {
            let mut copy = connection;
            assert_eq!(copy.advance(from, &segment(RST, real, 0)), Timer::Shorten, "{from}");
        }
    }

    #[test]
    fn what_the_outside_claims_holds_until_the_inside_acknowledges() {
        let mut connection = Connection::open(Inside, &segment(SYN, 100, 0));
        connection.advance(Outside, &segment(SYN.with(ACK), 1 << 31, 101));
        connection.advance(Outside, &segment(SYN.with(ACK), 500, 101));
        connection.advance(Inside, &segment(ACK, 101, 501));
        assert_eq!(connection.advance(Outside, &segment(RST, (1 << 31) + 1, 0)), Timer::Keep);
        assert_eq!(connection.advance(Outside, &segment(RST, 501, 0)), Timer::Shorten);
    }

    #[test]
    fn rfc7857_s2_data_after_a_reset_brings_the_connection_back() {
        let mut connection = established();
        connection.advance(Outside, &segment(RST, 501, 0));
        assert_eq!(connection.advance(Outside, &segment(RST, 501, 0)), Timer::Keep);
        assert_eq!(connection.advance(Inside, &segment(ACK, 101, 501)), Timer::Restart);
        assert_eq!(connection.state(), Some(State::Established));
    }

    #[test]
    fn a_refused_syn_ends_the_attempt_and_a_forged_refusal_does_not() {
        let refusal = |ack| segment(RST.with(ACK), 0, ack);
        let mut connection = Connection::open(Inside, &segment(SYN, 100, 0));
        assert_eq!(connection.advance(Outside, &refusal(77)), Timer::Keep);
        assert_eq!(connection.advance(Outside, &segment(RST, 0, 0)), Timer::Keep);
        assert_eq!(connection.advance(Outside, &refusal(101)), Timer::Shorten);
        assert_eq!(connection.state(), Some(State::Reset));
    }

    #[test]
    fn a_closed_session_opens_anew_from_either_side() {
        for from in Side::BOTH {
            let mut connection = established();
            connection.advance(Inside, &segment(RST, 101, 0));
            assert_eq!(connection.advance(from, &segment(SYN, 9000, 0)), Timer::Restart);
            assert_eq!(connection.state(), Some(State::opening(from)));
            connection.advance(from.opposite(), &segment(SYN.with(ACK), 70, 9001));
            assert_eq!(connection.state(), Some(State::Established));
        }
    }

    #[test]
    fn a_stray_syn_does_not_disturb_a_connection() {
        let mut connection = established();
        assert_eq!(connection.advance(Outside, &segment(SYN, 1, 0)), Timer::Keep);
        assert_eq!(connection.state(), Some(State::Established));
        assert_eq!(connection.advance(Outside, &segment(RST, 501, 0)), Timer::Shorten);
    }

    #[test]
    fn windows_scale_only_if_both_ends_said_so() {
        let scaled =
            |flags, seq, ack, shift| TcpMeta { window_scale: shift, ..segment(flags, seq, ack) };
        for (server, reach) in [(7, 1000 << 7), (TcpMeta::NO_SCALE, 1000)] {
            let mut connection = Connection::open(Inside, &scaled(SYN, 100, 0, 7));
            connection.advance(Outside, &scaled(SYN.with(ACK), 500, 101, server));
            connection.advance(Inside, &segment(ACK, 101, 501));
            let mut copy = connection;
            assert_eq!(copy.advance(Outside, &segment(RST, 501 + reach, 0)), Timer::Shorten);
            let far = segment(RST, 501 + reach + 1, 0);
            assert_eq!(connection.advance(Outside, &far), Timer::Keep);
        }
    }
}
