//! The TCP state machine of a session: RFC 7857 section 2, after RFC 6146 section 3.5.2.
//!
//! A translator follows a connection only to know how long to keep it. It never drops a segment
//! of a session for its state: RFC 7857, 2.2 has every segment translated that matches a mapping.

use krono_core::packet::{Side, TcpFlags, TcpMeta};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
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

    const fn from_byte(byte: u8) -> Option<State> {
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

    pub(crate) const fn name(self) -> &'static str {
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

/// A connection as a session stores it: 14 bytes, all zero for other transports.
///
/// `expects[side]` is the sequence number that this side's end expects next, as told by its
/// latest acknowledgement or by the SYN that went to it; `window` is what it last offered.
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
    expects: [u32; 2],
    window: [u16; 2],
    /// Window scales of both SYNs, one more than in the option; 0 if there was none.
    scale: [u8; 2],
    state: u8,
    /// A bit per side: its end has told (or been sent) a sequence number to expect.
    known: u8,
}

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

    pub(crate) fn state(&self) -> Option<State> {
        State::from_byte(self.state)
    }

    /// Takes one segment from `from` and says what it means for the timer.
    pub(crate) fn advance(&mut self, from: Side, segment: &TcpMeta) -> Timer {
        let Some(state) = self.state() else { return Timer::Keep };
        let flags = segment.flags;
        if flags.has(TcpFlags::RST) {
            return self.reset(state, from, segment);
        }
        if flags.has(TcpFlags::SYN) {
            return self.synchronise(state, from, segment);
        }
        self.note(from, segment);
        if flags.has(TcpFlags::FIN) { self.finish(state, from) } else { self.carry(state) }
    }

    fn reopen(&mut self, from: Side, syn: &TcpMeta) {
        *self = Connection { state: State::opening(from) as u8, ..Connection::default() };
        self.note_syn(from, syn);
    }

    /// RFC 7857, 2.2: only a RST that belongs to the connection ends it, lest an off-path
    /// attacker who guesses the endpoints could.
    fn reset(&mut self, state: State, from: Side, segment: &TcpMeta) -> Timer {
        if state.is_closing() || !self.is_in_window(from, segment) {
            return Timer::Keep;
        }
        self.state = State::Reset as u8;
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
                    self.state = State::Established as u8;
                }
            }
            // The second half of a simultaneous open, or a retransmission of it.
            _ if !fresh => {}
            // A retransmission, or a forgery that must not disturb what we know.
            _ => return Timer::Keep,
        }
        Timer::Restart
    }

    fn finish(&mut self, state: State, from: Side) -> Timer {
        match state {
            State::Established => self.state = State::finished(from) as u8,
            State::FinInside | State::FinOutside if state != State::finished(from) => {
                self.state = State::FinBoth as u8;
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
            State::Reset => self.state = State::Established as u8,
            _ => {}
        }
        Timer::Restart
    }

    /// Whether the peer of `from` would take this RST: its sequence number lies in the peer's
    /// window (RFC 9293, 3.10.7.4), or it refuses a SYN by acknowledging it (3.10.7.3).
    fn is_in_window(&self, from: Side, segment: &TcpMeta) -> bool {
        let peer = from.opposite() as usize;
        if self.known & (1 << peer) != 0 {
            let offset = segment.seq.wrapping_sub(self.expects[peer]);
            return offset <= self.offered(peer);
        }
        let own = from as usize;
        segment.flags.has(TcpFlags::ACK)
            && self.known & (1 << own) != 0
            && segment.ack == self.expects[own]
    }

    /// What `side` last offered, bytes; a scale counts only if both ends sent one (RFC 7323, 2.2).
    fn offered(&self, side: usize) -> u32 {
        let shift = if self.scale.contains(&0) { 0 } else { self.scale[side] - 1 };
        u32::from(self.window[side]) << shift.min(14)
    }

    fn note(&mut self, from: Side, segment: &TcpMeta) {
        if segment.flags.has(TcpFlags::ACK) {
            let own = from as usize;
            let known = self.known & (1 << own) != 0;
            let ahead = segment.ack.wrapping_sub(self.expects[own]) < 1 << 31;
            if !known || ahead {
                self.expects[own] = segment.ack;
                self.window[own] = segment.window;
                self.known |= 1 << own;
            }
        }
    }

    /// A SYN also says what the other end will expect: the byte after it.
    fn note_syn(&mut self, from: Side, syn: &TcpMeta) {
        self.note(from, syn);
        let (own, peer) = (from as usize, from.opposite() as usize);
        if syn.window_scale != TcpMeta::NO_SCALE {
            // The window of a SYN itself is never scaled.
            let shift = syn.window_scale.min(14);
            self.scale[own] = shift + 1;
            self.window[own] = syn.window >> shift;
        }
        if self.known & (1 << peer) == 0 {
            self.expects[peer] = syn.seq.wrapping_add(1);
            self.known |= 1 << peer;
        }
    }
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
    fn rfc7857_s2_2_only_a_reset_in_the_window_ends_a_connection() {
        for (from, inside_window, beyond) in [(Inside, 101, 101 + 1001), (Outside, 501, 501 + 1001)]
        {
            for stray in [beyond, inside_window - 1, inside_window + (1 << 31)] {
                let mut connection = established();
                assert_eq!(connection.advance(from, &segment(RST, stray, 0)), Timer::Keep);
                assert_eq!(connection.state(), Some(State::Established), "{from} {stray}");
            }
            for real in [inside_window, beyond - 1] {
                let mut connection = established();
                assert_eq!(connection.advance(from, &segment(RST, real, 0)), Timer::Shorten);
                assert_eq!(connection.state(), Some(State::Reset));
            }
        }
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
