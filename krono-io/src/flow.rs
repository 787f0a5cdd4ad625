//! Flow rules: which frames a device is to deliver to which queue, in the terms of rte_flow.

use std::ffi::{CStr, c_void};
use std::ptr;

use dpdk_sys::{
    rte_flow_action, rte_flow_action_queue, rte_flow_attr, rte_flow_error, rte_flow_item,
    rte_flow_item_eth, rte_flow_item_vlan,
};
use krono_core::packet::Mac;

use crate::dpdk_log::explained;
use crate::port::PortId;
use crate::queue::QueueId;

/// The VLAN's number in the tag control information; the rest is priority (IEEE 802.1Q, 9.6).
const VLAN_ID: u16 = 0x0fff;

/// A rule: frames for a MAC address, on a VLAN if one is given, go to a queue.
pub(crate) struct Rule {
    eth: Match<rte_flow_item_eth>,
    vlan: Option<Match<rte_flow_item_vlan>>,
    queue: rte_flow_action_queue,
}

/// What a header must have in it, where the mask has ones.
struct Match<T> {
    spec: T,
    mask: T,
}

impl Rule {
    pub(crate) fn new(mac: Mac, vlan: Option<u16>, queue: QueueId) -> Self {
        Rule {
            eth: Match { spec: eth_to(mac), mask: eth_to(Mac([0xff; 6])) },
            vlan: vlan.map(|id| Match { spec: vlan_tag(id), mask: vlan_tag(VLAN_ID) }),
            queue: rte_flow_action_queue { index: queue.0 },
        }
    }

    /// Gives the rule to a device, which keeps it until its rules are flushed. The error is what
    /// the driver says, or DPDK.
    pub(crate) fn install(&self, port: PortId) -> Result<(), String> {
        let (pattern, actions) = (self.pattern(), self.actions());
        let (pattern, actions) = (pattern.as_ptr(), actions.as_ptr());
        let mut attributes = rte_flow_attr::default();
        attributes.set_ingress(1);
        let mut error = rte_flow_error::default();
        // SAFETY: the port is open; pattern and actions end with END and point into `self`.
        let valid = explained(|| unsafe {
            dpdk_sys::rte_flow_validate(port.0, &attributes, pattern, actions, &mut error)
        });
        let created = valid.and_then(|_| {
            // SAFETY: as above; drivers copy what they keep.
            explained(|| unsafe {
                let rule =
                    dpdk_sys::rte_flow_create(port.0, &attributes, pattern, actions, &mut error);
                if rule.is_null() { -1 } else { 0 }
            })
        });
        created.map(drop).map_err(|reason| message(&error).unwrap_or(reason))
    }

    fn pattern(&self) -> [rte_flow_item; 3] {
        let end = rte_flow_item::default();
        let vlan = self.vlan.as_ref();
        [
            self.eth.item(dpdk_sys::rte_flow_item_type_RTE_FLOW_ITEM_TYPE_ETH),
            vlan.map_or(end, |vlan| {
                vlan.item(dpdk_sys::rte_flow_item_type_RTE_FLOW_ITEM_TYPE_VLAN)
            }),
            end,
        ]
    }

    fn actions(&self) -> [rte_flow_action; 2] {
        let queue = rte_flow_action {
            type_: dpdk_sys::rte_flow_action_type_RTE_FLOW_ACTION_TYPE_QUEUE,
            conf: ptr::from_ref(&self.queue).cast(),
        };
        [queue, rte_flow_action::default()]
    }
}

impl<T> Match<T> {
    fn item(&self, type_: u32) -> rte_flow_item {
        let pointer = |header: &T| ptr::from_ref(header).cast::<c_void>();
        rte_flow_item {
            type_,
            spec: pointer(&self.spec),
            last: ptr::null(),
            mask: pointer(&self.mask),
        }
    }
}

fn eth_to(mac: Mac) -> rte_flow_item_eth {
    let mut eth = rte_flow_item_eth::default();
    eth.__bindgen_anon_1.hdr.dst_addr.addr_bytes = mac.0;
    eth
}

fn vlan_tag(control: u16) -> rte_flow_item_vlan {
    let mut vlan = rte_flow_item_vlan::default();
    vlan.__bindgen_anon_1.hdr.vlan_tci = control.to_be();
    vlan
}

/// What a driver says about a rule that it refuses, if anything.
fn message(error: &rte_flow_error) -> Option<String> {
    if error.message.is_null() {
        return None;
    }
    // SAFETY: drivers set it to a string that stays, and this is the only reader.
    Some(unsafe { CStr::from_ptr(error.message) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);
    const ETH: u32 = dpdk_sys::rte_flow_item_type_RTE_FLOW_ITEM_TYPE_ETH;
    const VLAN: u32 = dpdk_sys::rte_flow_item_type_RTE_FLOW_ITEM_TYPE_VLAN;
    const END: u32 = dpdk_sys::rte_flow_item_type_RTE_FLOW_ITEM_TYPE_END;

    /// The header that an item of a live rule points at, and its mask.
    fn headers<const N: usize>(item: &rte_flow_item) -> ([u8; N], [u8; N]) {
        assert!(!item.spec.is_null() && item.last.is_null() && !item.mask.is_null());
        // SAFETY: the rule is alive, and its headers begin with at least N bytes of fields.
        unsafe { (item.spec.cast::<[u8; N]>().read(), item.mask.cast::<[u8; N]>().read()) }
    }

    #[test]
    fn the_destination_matches_exactly_and_nothing_else_matters() {
        let rule = Rule::new(MAC, None, QueueId(0));
        let pattern = rule.pattern();
        assert_eq!(pattern.map(|item| item.type_), [ETH, END, END]);
        let (spec, mask) = headers::<14>(&pattern[0]);
        assert_eq!(spec, [0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        // SAFETY: the rule is alive; the bits after the header are initialised too.
        let [spec, mask] = unsafe {
            [pattern[0].spec, pattern[0].mask].map(|eth| *eth.cast::<rte_flow_item_eth>())
        };
        assert_eq!((spec.has_vlan(), mask.has_vlan()), (0, 0));
    }

    #[test]
    fn a_vlan_matches_by_its_number_whatever_the_priority() {
        let rule = Rule::new(MAC, Some(0x123), QueueId(0));
        let pattern = rule.pattern();
        assert_eq!(pattern.map(|item| item.type_), [ETH, VLAN, END]);
        assert_eq!(headers::<6>(&pattern[0]), (MAC.0, [0xff; 6]));
        // In network byte order: priority, CFI, number; then the inner EtherType.
        assert_eq!(headers::<4>(&pattern[1]), ([0x01, 0x23, 0, 0], [0x0f, 0xff, 0, 0]));
    }

    #[test]
    fn the_only_action_is_the_queue() {
        let rule = Rule::new(MAC, None, QueueId(0x102));
        let [queue, end] = rule.actions();
        assert_eq!(queue.type_, dpdk_sys::rte_flow_action_type_RTE_FLOW_ACTION_TYPE_QUEUE);
        assert_eq!(end.type_, dpdk_sys::rte_flow_action_type_RTE_FLOW_ACTION_TYPE_END);
        // SAFETY: the rule is alive, and this is what the action's type says it points at.
        let index = unsafe { (*queue.conf.cast::<rte_flow_action_queue>()).index };
        assert_eq!(index, 0x102);
    }
}
