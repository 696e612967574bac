//! What apps ask for: lists, ports, reflectors, fragments, tags, and the modes.

use spectrum_common::reason::Reason::{
    Asn, Blocked, ClosedPort, Country, DatagramSize, Fragment, Malformed, Martian, NotAllowed,
    Reflector, TcpFlags,
};

use super::{CLIENT, CLIENT_V6, GAME, HOST, Row, SERVICE_VLAN, SIZED, SSH, VLAN, WEB, row};
use crate::{
    fixture::{
        Cell::{Dropped, Monitored, Passed},
        EDGE, EDGE_V6, STATIC_EDGE,
    },
    frame::*,
};

/// Where sources are.
pub(super) fn places() -> Vec<Row> {
    const LOCAL: Option<&str> = Some("local");
    const LOCAL_UDP: Option<&str> = Some("local-udp");
    const WATCHED: Option<&str> = Some("local-watched");
    let local = |source| syn(source, EDGE, 85);
    let local_v6 = |source| syn(source, EDGE_V6, 85);
    let by_system = |source| udp(source, EDGE, 8500);
    let watched = |source| syn(source, EDGE, 86);
    let refused = Dropped(Country);
    vec![
        row("country::one_that_may_come", local(CLIENT), LOCAL, Passed),
        row("country::another", local("100.65.1.1"), LOCAL, refused),
        row(
            "country::one_that_nobody_knows",
            local("100.66.1.1"),
            LOCAL,
            refused,
        ),
        row(
            "country::over_ipv6_one_that_may_come",
            local_v6(CLIENT_V6),
            LOCAL,
            Passed,
        ),
        row(
            "country::over_ipv6_another",
            local_v6("2001:db8:f:1::1"),
            LOCAL,
            refused,
        ),
        row(
            "country::over_ipv6_one_that_nobody_knows",
            local_v6("2001:db8:e::1"),
            LOCAL,
            refused,
        ),
        row(
            "country::an_exempted_source",
            local("198.19.3.77"),
            LOCAL,
            Passed,
        ),
        row(
            "country::at_an_app_that_does_not_ask",
            syn("100.65.1.1", EDGE, 80),
            WEB,
            Passed,
        ),
        row(
            "country::comes_behind_the_blocklist",
            local("198.18.0.7"),
            LOCAL,
            Dropped(Blocked),
        ),
        row(
            "asn::a_refused_one",
            by_system("100.65.1.1"),
            LOCAL_UDP,
            Dropped(Asn),
        ),
        row("asn::another", by_system(CLIENT), LOCAL_UDP, Passed),
        row(
            "asn::one_that_nobody_knows",
            by_system("100.66.1.1"),
            LOCAL_UDP,
            Passed,
        ),
        row(
            "asn::an_exempted_source",
            by_system("198.19.3.77"),
            LOCAL_UDP,
            Passed,
        ),
        row(
            "country::monitored",
            watched("100.65.1.1"),
            WATCHED,
            Monitored(Country),
        ),
        row(
            "asn::enforced_beside_a_watched_country",
            watched(CLIENT),
            WATCHED,
            Dropped(Asn),
        ),
    ]
}

pub(super) fn lists() -> Vec<Row> {
    let web = |source| syn(source, EDGE, 80);
    let web_v6 = |source| syn(source, EDGE_V6, 80);
    let ssh = |source| syn(source, EDGE, 22);
    let blocked = Dropped(Blocked);
    vec![
        row("blocked::an_address", web("198.18.0.7"), WEB, blocked),
        row(
            "blocked::its_neighbour_is_not",
            web("198.18.0.8"),
            WEB,
            Passed,
        ),
        row("blocked::a_prefix", web("198.18.1.250"), WEB, blocked),
        row(
            "blocked::beside_the_prefix_is_not",
            web("198.18.2.1"),
            WEB,
            Passed,
        ),
        row("blocked::a_wide_prefix", web("198.19.200.1"), WEB, blocked),
        row(
            "blocked::an_allowed_part_of_it_is_not",
            web("198.19.3.77"),
            WEB,
            Passed,
        ),
        row(
            "blocked::at_a_udp_app",
            udp("198.18.1.1", EDGE, 7000),
            GAME,
            blocked,
        ),
        row(
            "blocked::by_the_app_itself",
            web("198.18.5.1"),
            WEB,
            blocked,
        ),
        row(
            "blocked::elsewhere_that_is_no_matter",
            udp("198.18.5.1", EDGE, 7000),
            GAME,
            Passed,
        ),
        row(
            "blocked::an_ipv6_address",
            web_v6("2001:db8:bad::7"),
            WEB,
            blocked,
        ),
        row(
            "blocked::its_ipv6_neighbour_is_not",
            web_v6("2001:db8:bad::8"),
            WEB,
            Passed,
        ),
        row(
            "blocked::an_ipv6_network",
            web_v6("2001:db8:bad:7::1"),
            WEB,
            blocked,
        ),
        row(
            "blocked::a_wide_ipv6_prefix",
            web_v6("2001:db9:ffff::1"),
            WEB,
            blocked,
        ),
        row(
            "blocked::an_allowed_part_of_that_is_not",
            web_v6("2001:db9:1::1"),
            WEB,
            Passed,
        ),
        row(
            "blocked::by_the_app_itself_over_ipv6",
            web_v6("2001:db8:bad:1::5"),
            WEB,
            blocked,
        ),
        row(
            "blocked::with_ipv4_options",
            with_options(web("198.18.0.7"), 4),
            WEB,
            blocked,
        ),
        row(
            "blocked::behind_extension_headers",
            with_extensions(web_v6("2001:db8:bad::7"), &[0, 60]),
            WEB,
            blocked,
        ),
        row(
            "blocked::does_not_touch_the_hosts_own_traffic",
            ping("198.18.0.7", EDGE),
            HOST,
            Passed,
        ),
        row(
            "not_allowed::a_stranger",
            ssh(CLIENT),
            SSH,
            Dropped(NotAllowed),
        ),
        row(
            "not_allowed::an_ipv6_stranger",
            syn(CLIENT_V6, EDGE_V6, 22),
            SSH,
            Dropped(NotAllowed),
        ),
        row(
            "not_allowed::a_global_exemption_is_no_admission",
            ssh("198.19.3.77"),
            SSH,
            Dropped(NotAllowed),
        ),
        row("allowed::a_prefix", ssh("203.0.113.5"), SSH, Passed),
        row(
            "allowed::an_ipv6_prefix",
            syn("2001:db8:a11:9::1", EDGE_V6, 22),
            SSH,
            Passed,
        ),
        row(
            "allowed::but_blocked_by_a_narrower_entry",
            ssh("203.0.113.9"),
            SSH,
            blocked,
        ),
        row(
            "allowed::but_blocked_by_a_narrower_prefix",
            ssh("203.0.113.193"),
            SSH,
            blocked,
        ),
        row(
            "allowed::again_by_an_address_in_that",
            ssh("203.0.113.200"),
            SSH,
            Passed,
        ),
    ]
}

pub(super) fn ports() -> Vec<Row> {
    // Discard, TCPMUX: nobody listens there.
    let closed = Dropped(ClosedPort);
    vec![
        row("closed_port::a_syn", syn(CLIENT, EDGE, 9), HOST, closed),
        row("closed_port::udp", udp(CLIENT, EDGE, 9), HOST, closed),
        row(
            "closed_port::ipv6",
            syn(CLIENT_V6, EDGE_V6, 9),
            HOST,
            closed,
        ),
        row(
            "closed_port::udp_over_ipv6",
            udp(CLIENT_V6, EDGE_V6, 9),
            HOST,
            closed,
        ),
        row(
            "closed_port::before_a_range",
            udp(CLIENT, EDGE, 6999),
            HOST,
            closed,
        ),
        row(
            "closed_port::after_a_range",
            udp(CLIENT, EDGE, 8000),
            HOST,
            closed,
        ),
        row(
            "closed_port::the_other_transport",
            syn(CLIENT, EDGE, 7000),
            HOST,
            closed,
        ),
        row(
            "closed_port::an_app_that_has_another_address",
            udp(CLIENT, EDGE, 53),
            HOST,
            closed,
        ),
        row(
            "closed_port::a_static_address_serves_its_app_alone",
            syn(CLIENT, STATIC_EDGE, 80),
            HOST,
            closed,
        ),
    ]
}

pub(super) fn transport() -> Vec<Row> {
    let reflected = Dropped(Reflector);
    let wrong_size = Dropped(DatagramSize);
    let game = || udp(CLIENT, EDGE, 7000);
    let game_v6 = || udp(CLIENT_V6, EDGE_V6, 7000);
    let sized = |length| long_udp(CLIENT, EDGE, 9300, length);
    vec![
        row("datagram_size::least", sized(4), SIZED, Passed),
        row("datagram_size::most", sized(1000), SIZED, Passed),
        row("datagram_size::too_small", sized(3), SIZED, wrong_size),
        row("datagram_size::empty", sized(0), SIZED, wrong_size),
        row("datagram_size::too_large", sized(1001), SIZED, wrong_size),
        row(
            "datagram_size::ipv6",
            long_udp(CLIENT_V6, EDGE_V6, 9300, 1001),
            SIZED,
            wrong_size,
        ),
        row(
            "datagram_size::too_large_as_a_whole_though_the_first_fragment_is_not",
            fragment(with_udp_length(sized(500), 2000), 0, true),
            SIZED,
            wrong_size,
        ),
        row(
            "reflector::dns",
            udp_from(CLIENT, 53, EDGE, 7000),
            GAME,
            reflected,
        ),
        row(
            "reflector::ntp",
            udp_from(CLIENT, 123, EDGE, 7500),
            GAME,
            reflected,
        ),
        row(
            "reflector::memcached_over_ipv6",
            udp_from(CLIENT_V6, 11_211, EDGE_V6, 7000),
            GAME,
            reflected,
        ),
        row(
            "reflector::a_port_beside_it_is_none",
            udp_from(CLIENT, 124, EDGE, 7000),
            GAME,
            Passed,
        ),
        row(
            "reflector::an_app_without_the_rule",
            udp_from(CLIENT, 53, EDGE, 51_820),
            Some("vpn"),
            Passed,
        ),
        row(
            "reflector::tcp_from_such_a_port_is_none",
            with(syn(CLIENT, EDGE, 80), AFTER_IPV4 + 1, 53),
            WEB,
            Passed,
        ),
        row(
            "fragment::the_first",
            fragment(game(), 0, true),
            GAME,
            Dropped(Fragment),
        ),
        row(
            "fragment::the_first_of_tcp",
            fragment(syn(CLIENT, EDGE, 80), 0, true),
            WEB,
            Dropped(Fragment),
        ),
        row(
            "fragment::a_later_one_by_the_most_lenient_app",
            fragment(syn(CLIENT, EDGE, 80), 64, true),
            HOST,
            Monitored(Fragment),
        ),
        row(
            "fragment::the_last_of_tcp",
            fragment(syn(CLIENT, EDGE, 80), 1024, false),
            HOST,
            Monitored(Fragment),
        ),
        row(
            "fragment::a_later_one_where_some_app_needs_them",
            fragment(game(), 1024, true),
            HOST,
            Passed,
        ),
        row(
            "fragment::a_later_one_where_none_needs_them",
            fragment(udp(CLIENT, STATIC_EDGE, 53), 64, false),
            HOST,
            Dropped(Fragment),
        ),
        row(
            "fragment::ipv6_first",
            fragment_v6(game_v6(), 0, true),
            GAME,
            Dropped(Fragment),
        ),
        row(
            "fragment::ipv6_later_of_tcp",
            fragment_v6(syn(CLIENT_V6, EDGE_V6, 80), 1024, true),
            HOST,
            Monitored(Fragment),
        ),
    ]
}

pub(super) fn tags() -> Vec<Row> {
    let web = || syn(CLIENT, EDGE, 80);
    let bad = || syn("198.18.0.7", EDGE, 80);
    let two = |frame| tagged(tagged(frame, VLAN), SERVICE_VLAN);
    vec![
        row("vlan::one_tag_passes", tagged(web(), VLAN), WEB, Passed),
        row("vlan::two_tags_pass", two(web()), WEB, Passed),
        row(
            "vlan::ipv6_passes",
            tagged(syn(CLIENT_V6, EDGE_V6, 80), VLAN),
            WEB,
            Passed,
        ),
        row(
            "vlan::one_tag_hides_nobody",
            tagged(bad(), VLAN),
            WEB,
            Dropped(Blocked),
        ),
        row(
            "vlan::two_tags_hide_nobody",
            two(bad()),
            WEB,
            Dropped(Blocked),
        ),
        row(
            "vlan::a_closed_port",
            two(udp(CLIENT, EDGE, 9)),
            HOST,
            Dropped(ClosedPort),
        ),
        row(
            "vlan::broken_flags",
            tagged(tcp(CLIENT, EDGE, 80, 0), VLAN),
            HOST,
            Dropped(TcpFlags),
        ),
        row(
            "vlan::a_third_tag_is_not_looked_behind",
            tagged(two(bad()), SERVICE_VLAN),
            HOST,
            Passed,
        ),
    ]
}

/// Apps whose rules monitor: the packet passes, and the first rule that matched says so.
pub(super) fn monitored() -> Vec<Row> {
    let watched = Some("watched");
    let watched_udp = Some("watched-udp");
    vec![
        row(
            "monitor::blocked",
            syn("198.18.0.7", EDGE, 81),
            watched,
            Monitored(Blocked),
        ),
        row(
            "monitor::not_allowed",
            syn("100.64.7.1", EDGE, 81),
            watched,
            Monitored(NotAllowed),
        ),
        row(
            "monitor::an_allowed_source_is_not_noted",
            syn("203.0.113.77", EDGE, 81),
            watched,
            Passed,
        ),
        row(
            "monitor::reflector",
            udp_from("203.0.113.78", 53, EDGE, 8081),
            watched_udp,
            Monitored(Reflector),
        ),
        row(
            "monitor::fragment",
            fragment(udp("203.0.113.79", EDGE, 8081), 0, true),
            watched_udp,
            Monitored(Fragment),
        ),
        row(
            "monitor::counted_once_at_the_first_rule",
            fragment(udp_from("100.64.7.2", 53, EDGE, 8081), 0, true),
            watched_udp,
            Monitored(NotAllowed),
        ),
    ]
}

/// The host's own rules monitored.
pub(crate) fn host_monitored() -> Vec<Row> {
    vec![
        row(
            "host_monitor::malformed_then_the_app",
            with(udp(CLIENT, EDGE, 7000), AFTER_IPV4 + 5, 7),
            HOST,
            Monitored(Malformed),
        ),
        row(
            "host_monitor::destination_cut_off",
            cut(syn(CLIENT, EDGE, 80), IP + 18),
            HOST,
            Monitored(Malformed),
        ),
        row(
            "host_monitor::tcp_flags",
            tcp(CLIENT, EDGE, 80, SYN | FIN),
            HOST,
            Monitored(TcpFlags),
        ),
        row(
            "host_monitor::martian",
            syn("127.0.0.1", EDGE, 80),
            HOST,
            Monitored(Martian),
        ),
        row(
            "host_monitor::closed_port",
            syn(CLIENT, EDGE, 9),
            HOST,
            Monitored(ClosedPort),
        ),
        row(
            "host_monitor::an_enforced_rule_still_drops",
            tcp("198.18.0.7", EDGE, 80, SYN | FIN),
            WEB,
            Dropped(Blocked),
        ),
    ]
}

/// The host's own rules off.
pub(crate) fn host_off() -> Vec<Row> {
    vec![
        row(
            "host_off::tcp_flags",
            tcp(CLIENT, EDGE, 80, SYN | FIN),
            WEB,
            Passed,
        ),
        row("host_off::martian", syn("127.0.0.1", EDGE, 80), WEB, Passed),
        row("host_off::closed_port", udp(CLIENT, EDGE, 9), HOST, Passed),
        row(
            "host_off::destination_cut_off",
            cut(syn(CLIENT, EDGE, 80), IP + 18),
            HOST,
            Passed,
        ),
        row(
            "host_off::an_apps_rules_hold",
            syn("198.18.0.7", EDGE, 80),
            WEB,
            Dropped(Blocked),
        ),
    ]
}
