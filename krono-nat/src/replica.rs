//! The translator as a program whose state is kept alike on many cores: what a core must know of
//! the packets that the others got.

use krono_core::packet::{Endpoint, FlowMeta, Kind, PacketMeta, Protocol, Side, TcpFlags, TcpMeta};
use krono_core::program::{Events, Program, Slot, Translation, Verdict};
use krono_core::replicable::{Digest, Replicable};
use krono_core::time::{Moment, Ticks};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::events::Event;
use crate::nat::{Nat, Probe};
use crate::record::Record;

/// A translator that takes records as they travel. Replicas of one pool give out the same ports:
/// the list of free ones is the state that sharding cannot split.
pub struct Replica<'m>(pub Nat<'m>);

/// A [`Record`] as it travels: 32 bytes, little-endian, without gaps.
///
/// | bytes | field |
/// |---|---|
/// | 0–3 | tick of 100 ms |
/// | 4–11 | TCP sequence and acknowledgement number |
/// | 12–15 | TCP window, payload length |
/// | 16–21 | source address and port, as the sender uses them |
/// | 22–27 | destination address and port |
/// | 28 | TCP flags |
/// | 29 | TCP window scale |
/// | 30 | kind of packet |
/// | 31 | bits 0–1 protocol, 2 from outside, 3 an error to the sender it quotes, 7 always set |
#[derive(
    Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Shipment {
    now: U32,
    seq: U32,
    ack: U32,
    window: U16,
    payload_len: U16,
    src_addr: [u8; 4],
    src_port: U16,
    dst_addr: [u8; 4],
    dst_port: U16,
    tcp_flags: u8,
    window_scale: u8,
    kind: u8,
    marks: u8,
}

const _: () = assert!(size_of::<Shipment>() == 32);

const PROTOCOL: u8 = 0x03;
const FROM_OUTSIDE: u8 = 0x04;
const TO_QUOTED_SENDER: u8 = 0x08;
const PRESENT: u8 = 0x80;

/// The kinds of packets that a translator works on, by their number in a shipment.
const KINDS: [Kind; 5] =
    [Kind::Udp, Kind::Tcp, Kind::IcmpRequest, Kind::IcmpReply, Kind::IcmpError];

impl Shipment {
    fn new(record: &Record) -> Self {
        let FlowMeta { tcp, src, dst, kind, protocol } = record.flow;
        let from_outside = if record.side == Side::Outside { FROM_OUTSIDE } else { 0 };
        let to_quoted_sender = if record.to_quoted_sender { TO_QUOTED_SENDER } else { 0 };
        Shipment {
            now: record.now.0.into(),
            seq: tcp.seq.into(),
            ack: tcp.ack.into(),
            window: tcp.window.into(),
            payload_len: tcp.payload_len.into(),
            src_addr: src.addr.octets(),
            src_port: src.port.into(),
            dst_addr: dst.addr.octets(),
            dst_port: dst.port.into(),
            tcp_flags: tcp.flags.0,
            window_scale: tcp.window_scale,
            kind: kind as u8,
            marks: protocol as u8 | from_outside | to_quoted_sender | PRESENT,
        }
    }

    /// The record; `None` of bytes that are none, zeros among them.
    #[inline]
    fn record(&self) -> Option<Record> {
        let is_present = self.marks & PRESENT != 0;
        let kind = *KINDS.get(usize::from(self.kind)).filter(|_| is_present)?;
        let protocol = Protocol::from_index(self.marks & PROTOCOL)?;
        let has = |mark: u8| self.marks & mark != 0;
        let tcp = TcpMeta {
            seq: self.seq.get(),
            ack: self.ack.get(),
            window: self.window.get(),
            payload_len: self.payload_len.get(),
            flags: TcpFlags(self.tcp_flags),
            window_scale: self.window_scale,
        };
        let src = Endpoint::new(self.src_addr.into(), self.src_port.get());
        let dst = Endpoint::new(self.dst_addr.into(), self.dst_port.get());
        Some(Record {
            now: Ticks(self.now.get()),
            flow: FlowMeta { tcp, src, dst, kind, protocol },
            side: if has(FROM_OUTSIDE) { Side::Outside } else { Side::Inside },
            to_quoted_sender: has(TO_QUOTED_SENDER),
        })
    }
}

impl Program for Replica<'_> {
    type Record = Shipment;
    type Probe = Probe;
    type Event = Event;

    #[inline]
    fn record(meta: &PacketMeta, side: Side, now: Moment) -> Shipment {
        Shipment::new(&Record::new(meta, side, now.ticks()))
    }

    #[inline]
    fn probe(&self, record: &Shipment) -> Probe {
        record.record().map_or_else(Probe::default, |record| self.0.probe(&record))
    }

    #[inline]
    fn touch(&self, record: &Shipment, probe: &mut Probe, look: u32) -> bool {
        record.record().is_some_and(|record| self.0.touch(&record, probe, look))
    }

    /// A record of zeros is consumed, and nothing more.
    #[inline]
    fn step(
        &mut self,
        record: &Shipment,
        probe: &Probe,
        events: &mut impl Events<Event>,
    ) -> Verdict {
        match record.record() {
            Some(record) => self.0.step(&record, probe, events),
            None => Verdict::Consume,
        }
    }

    #[inline]
    fn translation(&self, slot: Slot) -> &Translation {
        self.0.translation(slot)
    }

    fn tick(&mut self, now: Ticks, events: &mut impl Events<Event>) -> bool {
        self.0.tick(now, events)
    }
}

impl Replicable for Replica<'_> {
    const NAME: &'static str = "nat";

    #[inline]
    fn time(record: &Shipment) -> Option<Ticks> {
        (record.marks & PRESENT != 0).then(|| Ticks(record.now.get()))
    }

    /// All but the policy, which is a setting.
    fn copy_from(&mut self, other: &Self) {
        let (to, from) = (&mut self.0, &other.0);
        to.entries.copy_from_slice(from.entries);
        to.free.clone_from(&from.free);
        to.table.copy_from(&from.table);
        to.deadlines.copy_from(&from.deadlines);
        to.ports.copy_from(&from.ports);
        to.subscribers.copy_from(&from.subscribers);
        to.rng.clone_from(&from.rng);
        to.counts.clone_from(&from.counts);
        to.told.clone_from(&from.told);
        (to.further, to.untranslated) = (from.further, from.untranslated);
    }

    fn digest(&self) -> u64 {
        let nat = &self.0;
        let mut digest = Digest::default();
        digest.add_all(&nat.entries[..nat.free.high_water() as usize]);
        nat.free.add_to(&mut digest);
        nat.table.add_to(&mut digest);
        nat.deadlines.add_to(&mut digest);
        nat.ports.add_to(&mut digest);
        nat.subscribers.add_to(&mut digest);
        nat.told.add_to(&mut digest);
        let position = nat.rng.get_word_pos();
        digest.add(position as u64);
        digest.add(u64::from(nat.further) << 32 | u64::from(nat.untranslated));
        digest.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        any::<(u32, u16)>().prop_map(|(addr, port)| Endpoint::new(addr.into(), port))
    }

    fn tcp() -> impl Strategy<Value = TcpMeta> {
        any::<(u32, u32, u16, u16, u8, u8)>().prop_map(
            |(seq, ack, window, payload_len, flags, window_scale)| {
                let flags = TcpFlags(flags);
                TcpMeta { seq, ack, window, payload_len, flags, window_scale }
            },
        )
    }

    fn record() -> impl Strategy<Value = Record> {
        let flow = (tcp(), endpoint(), endpoint(), select(&KINDS[..]), select(&Protocol::ALL[..]));
        (any::<u32>(), flow, select(&Side::BOTH[..]), any::<bool>()).prop_map(
            |(now, (tcp, src, dst, kind, protocol), side, to_quoted_sender)| {
                let flow = FlowMeta { tcp, src, dst, kind, protocol };
                Record { now: Ticks(now), flow, side, to_quoted_sender }
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_arrives_as_it_was_sent(record in record()) {
            let shipment = Shipment::new(&record);
            prop_assert_eq!(shipment.record(), Some(record));
            prop_assert_eq!(<Replica<'_> as Replicable>::time(&shipment), Some(record.now));
        }

        #[test]
        fn other_bytes_are_a_record_or_none(bytes: [u8; 32]) {
            let shipment = Shipment::read_from_bytes(&bytes).expect("32 bytes");
            if let Some(record) = shipment.record() {
                prop_assert_eq!(Shipment::new(&record).record(), Some(record));
            }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(Shipment::default().record(), None);
    }
}
