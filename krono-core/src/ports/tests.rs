//! What an allocator of public ports promises, one promise at a time.

use std::ops::RangeInclusive;

use super::*;

/// The memory that the house would hand in.
struct Memory {
    entries: Vec<u32>,
    free_lists: Vec<u16>,
    banks: Vec<BankState>,
}

impl Memory {
    fn of(addresses: usize) -> Self {
        let sizes = Ports::memory(addresses);
        Memory {
            entries: vec![0; sizes.entries],
            free_lists: vec![0; sizes.free_lists],
            banks: vec![BankState::default(); sizes.banks],
        }
    }

    /// The allocator over it, of as many addresses from 198.51.100.0 on.
    fn ports(&mut self, range: RangeInclusive<u16>) -> Ports<'_> {
        let addresses = self.banks.len() / Protocol::COUNT;
        let prefix = format!("198.51.100.0/{}", 32 - addresses.ilog2());
        let memory = PortsMemory {
            entries: &mut self.entries,
            free_lists: &mut self.free_lists,
            banks: &mut self.banks,
        };
        Ports::new(Pool::new(&[prefix.parse().unwrap()]), range, memory)
    }
}

const NOW: Ticks = Ticks(u32::MAX - 7);
const HOLD: Span = Span::from_secs(120);

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new([198, 51, 100, 0].into(), port)
}

#[test]
fn a_port_goes_from_free_to_owned_to_held_to_free() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5000);
    let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
    let public = endpoint(5000);
    assert_eq!(ports.lookup(udp, Endpoint::new([198, 51, 100, 1].into(), 5000)), Lookup::NotPool);
    assert_eq!(ports.lookup(udp, public), Lookup::Free);

    assert_eq!(ports.allocate(udp, 0, 80, 7, || 99, NOW), Some(public));
    assert_eq!(ports.lookup(udp, public), Lookup::Owned(7));
    assert_eq!(ports.lookup(tcp, public), Lookup::Free);
    assert_eq!(ports.allocate(udp, 0, 80, 8, || 99, NOW), None);
    assert_eq!(ports.counts(udp), Counts { free: 0, held: 0, owned: 1 });

    ports.release(udp, public, NOW, HOLD);
    assert_eq!(ports.lookup(udp, public), Lookup::Held);
    assert_eq!(ports.counts(udp), Counts { free: 0, held: 1, owned: 0 });
    assert_eq!(ports.allocate(udp, 0, 80, 8, || 99, Ticks(NOW.0.wrapping_add(HOLD.0))), None);
    ports.tick(Ticks(NOW.0.wrapping_add(HOLD.0 + 5)));
    assert_eq!(ports.lookup(udp, public), Lookup::Free);
    assert_eq!(ports.counts(udp), Counts { free: 1, held: 0, owned: 0 });
}
