//! Why frames are dropped: every drop has a name, a counter and a sentence.

use std::fmt;

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal;)*) => {
        /// Why a received frame was not forwarded.
        ///
        /// The names are a contract: they are keys in `kronoctl stats --json` and label values in
        /// metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// All reasons, in index order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in statistics.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(DropReason::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    // The frame, before anything is believed of it.
    FrameTooShort "frame_too_short" "The frame ends within its Ethernet, ARP or IP header.";
    HeadersSegmented "headers_segmented" "The headers reach beyond the first segment of the buffer.";
    EtherTypeUnsupported "ethertype_unsupported" "The EtherType is not ARP, IPv4 or a single 802.1Q tag.";
    Ipv6Unsupported "ipv6_unsupported" "IPv6 is not implemented yet.";
    MacSourceBad "mac_source_bad" "The source MAC is a group address, which no station has (IEEE 802.3, 3.2.3).";
    MacNotOurs "mac_not_ours" "The destination MAC is another station's.";
    VlanUnknown "vlan_unknown" "The VLAN tag is not the one of this side of the shard.";
    // What a sequencer puts in front of a frame
    ScrHeaderBad "scr_header_bad" "The frame ends within the history that a sequencer put in front of it, or that history's numbers are impossible.";
    // ARP
    ArpMalformed "arp_malformed" "The ARP packet is not a request or reply for IPv4 over Ethernet, or its addresses are impossible.";
    ArpNotOurs "arp_not_ours" "The ARP request asks for an address that this shard does not answer for.";
    ArpConflict "arp_conflict" "Another station claims an address of this shard.";
    // IPv4 header
    IpVersionBad "ip_version_bad" "The version field of the IPv4 header is not 4.";
    IpHeaderLenBad "ip_header_len_bad" "The IP header length is below 20 bytes or beyond the packet.";
    IpTotalLenBad "ip_total_len_bad" "The IP total length is below the header or beyond the frame.";
    IpChecksumBad "ip_checksum_bad" "The IP header checksum is wrong (RFC 1812, 5.2.2).";
    IpOptionsBad "ip_options_bad" "The IP options do not add up to the header length.";
    SourceRouted "source_routed" "The packet carries a source route option, which is not honoured (RFC 7126, 4.3).";
    Fragment "fragment" "Fragments are not implemented yet.";
    ProtocolUnsupported "protocol_unsupported" "The IP protocol is not UDP, TCP or ICMP.";
    // Transport headers
    TcpHeaderBad "tcp_header_bad" "The TCP header does not fit its packet or its own length.";
    TcpFlagsBad "tcp_flags_bad" "The TCP flags never occur together in a connection (none; SYN with FIN or RST).";
    UdpLenBad "udp_len_bad" "The UDP length is below 8 or beyond the packet.";
    PortZero "port_zero" "A transport port is 0.";
    IcmpHeaderBad "icmp_header_bad" "The ICMP message is shorter than its header.";
    IcmpChecksumBad "icmp_checksum_bad" "The checksum of an ICMP error is wrong (RFC 5508, REQ-3).";
    IcmpTypeUnsupported "icmp_type_unsupported" "The ICMP type is not an echo, a timestamp or one of the errors that are translated (RFC 5508, REQ-10, REQ-11).";
    QuotedHeaderBad "quoted_header_bad" "The packet quoted by an ICMP error is cut short, is a fragment, or has a bad IP header (RFC 5508, REQ-3).";
    QuotedProtocolUnsupported "quoted_protocol_unsupported" "The packet quoted by an ICMP error is not UDP, TCP or an ICMP query.";
    // Router checks
    MartianSource "martian_source" "The source address cannot be a sender's here (RFC 1812, 5.3.7): this host, loopback, multicast, broadcast, reserved, or an address of this shard.";
    MartianDestination "martian_destination" "The destination address cannot be forwarded to: this network, loopback, link-local or reserved.";
    MulticastUnsupported "multicast_unsupported" "Multicast and broadcast packets are not forwarded.";
    Land "land" "Source and destination are the same.";
    SpoofedSource "spoofed_source" "An inside source lies outside the subscriber routes (RFC 2827).";
    TtlExceeded "ttl_exceeded" "The time to live ended here.";
    LocalUnsupported "local_unsupported" "The packet is for an address of the shard itself and is not an ICMP echo request.";
    NotOurs "not_ours" "The destination is neither a pool address nor reached through this shard.";
    NoRoute "no_route" "No route leads to the destination.";
    FragmentationNeeded "fragmentation_needed" "The packet exceeds the MTU of its way out and must not be fragmented; its sender is told.";
    TooBig "too_big" "The packet exceeds the MTU of its way out, and fragmenting is not implemented yet.";
    NeighbourUnresolved "neighbour_unresolved" "A newer packet took the one place to wait for the next hop's MAC address.";
    NeighbourUnreachable "neighbour_unreachable" "The next hop does not answer ARP.";
    NeighboursFull "neighbours_full" "The neighbour table is full.";
    ShutDown "shut_down" "The frame was held or unprocessed when the shard stopped.";
    // Translation
    NoMapping "no_mapping" "No mapping owns the public address and port.";
    HairpinOff "hairpin_off" "Hairpinning is switched off, and the destination is a public address of this shard.";
    Filtered "filtered" "The filtering behaviour does not admit this remote endpoint (RFC 4787, REQ-8).";
    FirewallRule "firewall_rule" "A firewall rule, or the default for inbound sessions, forbids the new session.";
    TcpNoSession "tcp_no_session" "A TCP segment that does not open a connection belongs to none.";
    IcmpReplyUnasked "icmp_reply_unasked" "An ICMP reply answers no query that is known.";
    IcmpQueryUnsolicited "icmp_query_unsolicited" "An ICMP query from outside is for a public address, which stands for no single host.";
    IcmpErrorNoSession "icmp_error_no_session" "An ICMP error quotes a packet of no session that is known (RFC 5508, REQ-4, REQ-5).";
    SubscriberPorts "subscriber_ports" "The subscriber has as many mappings as it may have (RFC 6888, REQ-4).";
    PortsExhausted "ports_exhausted" "The subscriber's public address has no free port (RFC 6888, REQ-11).";
    SessionsFull "sessions_full" "The session table of the shard is full.";
    SubscribersFull "subscribers_full" "The subscriber table of the shard is full.";
    // The programs of scr-sequencer
    SourceListed "source_listed" "The source is on the list of those that are always dropped.";
    SourceBlocked "source_blocked" "The source sends more than its share of all packets.";
    RateExceeded "rate_exceeded" "The flow exceeds its rate: its token bucket is empty.";
    BucketsFull "buckets_full" "There is no place for the flow's token bucket: none of those in its sets is full.";
    PortClosed "port_closed" "The port is protected, and its source has not knocked.";
    KnockersFull "knockers_full" "There is no place for a source that knocks: all of those in its set are open.";
    ConnectionsFull "connections_full" "There is no place for the new connection: all of those in its sets are established.";
    // State on many cores
    ScrRingFull "scr_ring_full" "No core of the replicated shard takes packets fast enough: all their rings are full, or there is no core.";
    ScrHandover "scr_handover" "A core takes over the state of another, and histories hold no more until it has.";
    ScrLate "scr_late" "A sequenced packet came when its core had given it up already, or its history does not follow on what the core knows.";
    // Bidirectional Forwarding Detection
    BfdTtlBad "bfd_ttl_bad" "The time to live of a BFD packet is not 255, so that it may come from beyond the link (RFC 5881, 5).";
    BfdChecksumBad "bfd_checksum_bad" "The UDP checksum of a BFD packet is wrong.";
    BfdVersionBad "bfd_version_bad" "The version of a BFD packet is not 1.";
    BfdLenBad "bfd_len_bad" "The length of a BFD packet is below that of its fields or beyond its datagram.";
    BfdMultiplierZero "bfd_multiplier_zero" "The detection multiplier of a BFD packet is 0.";
    BfdMultipoint "bfd_multipoint" "A BFD packet has the multipoint bit, which must be 0.";
    BfdDiscriminatorZero "bfd_discriminator_zero" "The sender of a BFD packet has no discriminator.";
    BfdStateBad "bfd_state_bad" "A BFD packet in state init or up does not say which session it is of.";
    BfdSessionUnknown "bfd_session_unknown" "No BFD session is held with the sender of a BFD packet, or its discriminator is another session's.";
    BfdAuthenticated "bfd_authenticated" "A BFD packet is authenticated, which is not implemented.";
    BfdAdminDown "bfd_admin_down" "The session of a BFD packet is held down by the operator.";
    // The twin on another server
    NotServing "not_serving" "This half of the shard does not serve: its twin on another server does, or none of them yet.";
    HaChecksumBad "ha_checksum_bad" "The UDP checksum of a frame from the twin is wrong.";
    HaLength "ha_length" "A frame from the twin ends within its header or digest, or is longer than any.";
    HaMagic "ha_magic" "What came from the twin is no replication frame.";
    HaVersion "ha_version" "The twin speaks another version of the replication protocol.";
    HaDigest "ha_digest" "The digest of a frame from the twin is wrong: another key, or a forgery.";
    HaLayout "ha_layout" "The twin's records, or settings that both must share, differ from those here.";
    HaShard "ha_shard" "A frame from the twin is about another shard.";
    HaNode "ha_node" "A frame from the twin's address is of another node than the twin.";
    HaHeader "ha_header" "A frame from the twin has an impossible header.";
    HaReplayed "ha_replayed" "A frame from the twin has come before.";
    HaOutdated "ha_outdated" "A frame is from the twin as it was before it started anew.";
    // Leaving
    NoHeadroom "no_headroom" "The buffer has no room for the headers of the answer.";
    TxFull "tx_full" "The transmit queue took no more.";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_speakable() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(
                reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'6')
            );
            assert!(reason.describe().ends_with('.'));
        }
    }
}
