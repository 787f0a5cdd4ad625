//! Who has which public endpoint: an index of all flows by what they were translated to.
//!
//! It is exact within a share: a hash table whose chains lie in the flows' own records, 8 of
//! their 64 bytes. Between shares it sees nothing: of two flows with one endpoint, both are in
//! one share with a chance of 1 in as many shares as there are. (Answers of a translator that gives
//! one endpoint to two subscribers and one server go wrong anyway, which is seen by every share.)

use krono_core::hash::HashKey;
use krono_core::packet::{Endpoint, Protocol};

use super::flow::Flow;

/// The place of an endpoint in a table of as many places as there are flows.
fn place(key: &HashKey, flows: usize, protocol: Protocol, endpoint: Endpoint) -> usize {
    let address = u64::from(endpoint.addr.to_bits()) << 16 | u64::from(endpoint.port);
    let hash = key.hash(address, protocol as u64);
    ((u128::from(hash) * flows as u128) >> 64) as usize
}

/// Enters a flow whose endpoint was learnt.
pub(super) fn enter(flows: &mut [Flow], key: &HashKey, protocol: Protocol, number: u32) {
    let Some(endpoint) = flows[number as usize].public() else { return };
    let place = place(key, flows.len(), protocol, endpoint);
    flows[number as usize].next = flows[place].head;
    flows[place].head = number + 1;
}

/// Takes out a flow, before its endpoint is forgotten.
pub(super) fn leave(flows: &mut [Flow], key: &HashKey, protocol: Protocol, number: u32) {
    let Some(endpoint) = flows[number as usize].public() else { return };
    let place = place(key, flows.len(), protocol, endpoint);
    let next = flows[number as usize].next;
    if flows[place].head == number + 1 {
        flows[place].head = next;
        return;
    }
    let mut at = flows[place].head;
    while at != 0 {
        let before = &mut flows[at as usize - 1];
        if before.next == number + 1 {
            before.next = next;
            return;
        }
        at = before.next;
    }
}

/// All flows entered at this endpoint's place: those that have it, and a few that have another.
pub(super) fn near(
    flows: &[Flow],
    key: &HashKey,
    protocol: Protocol,
    endpoint: Endpoint,
) -> impl Iterator<Item = u32> {
    let head = flows[place(key, flows.len(), protocol, endpoint)].head;
    let next = |at: &u32| Some(flows[*at as usize - 1].next).filter(|next| *next != 0);
    std::iter::successors(Some(head).filter(|head| *head != 0), next).map(|at| at - 1)
}
