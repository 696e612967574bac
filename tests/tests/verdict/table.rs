//! The rows: a packet, whose it is, and what becomes of it.

mod rules;

use spectrum_common::reason::Reason::{Malformed, Martian, TcpFlags};

pub(crate) use rules::{host_monitored, host_off};
use rules::{lists, monitored, places, ports, tags, transport};

use crate::{
    fixture::{
        Cell::{self, Dropped, Passed},
        EDGE, EDGE_V6, ELSEWHERE, Owner, STATIC_EDGE,
    },
    frame::*,
};

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) frame: Vec<u8>,
    pub(crate) owner: Owner,
    pub(crate) cell: Cell,
}

pub(crate) fn row(name: &'static str, frame: Vec<u8>, owner: Owner, cell: Cell) -> Row {
    Row {
        name,
        frame,
        owner,
        cell,
    }
}

/// An ordinary client, on no list.
const CLIENT: &str = "100.64.0.9";
const CLIENT_V6: &str = "2001:db8:c::9";

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const HOST: Owner = None;
const WEB: Owner = Some("web");
const GAME: Owner = Some("game");
const SIZED: Owner = Some("sized");
const SSH: Owner = Some("ssh");

/// All rules enforced.
pub(crate) fn enforced() -> Vec<Row> {
    let groups = [
        passes(),
        in_several_buffers(),
        broken(),
        sources(),
        lists(),
        places(),
        ports(),
        transport(),
        tags(),
        monitored(),
        crate::rules::rows(),
    ];
    groups.into_iter().flatten().collect()
}

fn passes() -> Vec<Row> {
    vec![
        row("passes::arp", arp(), HOST, Passed),
        row(
            "passes::what_is_not_for_an_edge_address",
            syn(CLIENT, ELSEWHERE, 80),
            HOST,
            Passed,
        ),
        row(
            "passes::a_blocked_source_to_what_is_not_ours",
            syn("198.18.0.7", ELSEWHERE, 80),
            HOST,
            Passed,
        ),
        row(
            "passes::broken_flags_to_what_is_not_ours",
            tcp(CLIENT, ELSEWHERE, 80, 0),
            HOST,
            Passed,
        ),
        row("passes::ping", ping(CLIENT, EDGE), HOST, Passed),
        row(
            "passes::a_syn_to_an_app",
            syn(CLIENT, EDGE, 80),
            WEB,
            Passed,
        ),
        row(
            "passes::a_syn_with_ecn",
            tcp(CLIENT, EDGE, 80, SYN | ECE_CWR),
            WEB,
            Passed,
        ),
        row(
            "passes::data",
            tcp(CLIENT, EDGE, 80, ACK | PSH),
            WEB,
            Passed,
        ),
        row(
            "passes::the_end_of_a_connection",
            tcp(CLIENT, EDGE, 80, ACK | FIN),
            WEB,
            Passed,
        ),
        row("passes::a_reset", tcp(CLIENT, EDGE, 80, RST), WEB, Passed),
        row(
            "passes::urgent_data",
            tcp(CLIENT, EDGE, 80, ACK | URG),
            WEB,
            Passed,
        ),
        row(
            "passes::ipv6_to_an_app",
            syn(CLIENT_V6, EDGE_V6, 80),
            WEB,
            Passed,
        ),
        row(
            "passes::udp_to_an_app",
            udp(CLIENT, EDGE, 7000),
            GAME,
            Passed,
        ),
        row(
            "passes::udp_over_ipv6",
            udp(CLIENT_V6, EDGE_V6, 7000),
            GAME,
            Passed,
        ),
        row(
            "passes::the_last_port_of_a_range",
            udp(CLIENT, EDGE, 7999),
            GAME,
            Passed,
        ),
        row(
            "passes::padding_after_the_packet",
            padded(syn(CLIENT, EDGE, 80), 6),
            WEB,
            Passed,
        ),
        row(
            "passes::ipv4_options",
            with_options(syn(CLIENT, EDGE, 80), 3),
            WEB,
            Passed,
        ),
        row(
            "passes::the_most_ipv4_options",
            with_options(syn(CLIENT, EDGE, 80), 10),
            WEB,
            Passed,
        ),
        row(
            "passes::an_extension_header",
            with_extensions(syn(CLIENT_V6, EDGE_V6, 80), &[60]),
            WEB,
            Passed,
        ),
        row(
            "passes::a_chain_of_extension_headers",
            with_extensions(syn(CLIENT_V6, EDGE_V6, 80), &[0, 43, 60, 51]),
            WEB,
            Passed,
        ),
        row(
            "passes::a_whole_datagram_in_a_fragment_header",
            fragment_v6(udp(CLIENT_V6, EDGE_V6, 7000), 0, false),
            GAME,
            Passed,
        ),
        row(
            "passes::an_app_on_its_static_address",
            udp(CLIENT, STATIC_EDGE, 53),
            Some("dns"),
            Passed,
        ),
        row(
            "passes::fragments_where_an_app_needs_them",
            fragment(udp(CLIENT, EDGE, 51_820), 0, true),
            Some("vpn"),
            Passed,
        ),
    ]
}

/// Frames too large for one buffer of the driver: jumbo frames, and segments that were put together.
fn in_several_buffers() -> Vec<Row> {
    const LARGE: usize = 9000;
    let to_game = || long_udp(CLIENT, EDGE, 7000, LARGE);
    vec![
        row("buffers::a_large_datagram", to_game(), GAME, Passed),
        row(
            "buffers::a_large_datagram_over_ipv6",
            long_udp(CLIENT_V6, EDGE_V6, 7000, LARGE),
            GAME,
            Passed,
        ),
        row(
            "buffers::cut_off",
            cut(to_game(), LARGE),
            HOST,
            Dropped(Malformed),
        ),
        row("buffers::not_ip", padded(arp(), LARGE), HOST, Passed),
    ]
}

fn broken() -> Vec<Row> {
    let tcp_v4 = || syn(CLIENT, EDGE, 80);
    let udp_v4 = || udp(CLIENT, EDGE, 7000);
    let tcp_v6 = || syn(CLIENT_V6, EDGE_V6, 80);
    let malformed = Dropped(Malformed);
    let flags = |flags| tcp(CLIENT, EDGE, 80, flags);
    vec![
        row(
            "malformed::ipv4_header_shorter_than_20",
            with(tcp_v4(), IP, 0x44),
            HOST,
            malformed,
        ),
        row(
            "malformed::ipv4_with_another_version",
            with(tcp_v4(), IP, 0x65),
            HOST,
            malformed,
        ),
        row(
            "malformed::ipv4_longer_than_the_frame",
            with(tcp_v4(), IP + 3, 0xff),
            HOST,
            malformed,
        ),
        row(
            "malformed::ipv4_shorter_than_its_header",
            with(tcp_v4(), IP + 3, 19),
            HOST,
            malformed,
        ),
        row(
            "malformed::options_beyond_the_end",
            with(tcp_v4(), IP, 0x4f),
            HOST,
            malformed,
        ),
        row(
            "malformed::ipv6_longer_than_the_frame",
            with(tcp_v6(), IP + 4, 1),
            HOST,
            malformed,
        ),
        row(
            "malformed::ipv6_with_another_version",
            with(tcp_v6(), IP, 0x40),
            HOST,
            malformed,
        ),
        row(
            "malformed::too_many_extension_headers",
            with_extensions(tcp_v6(), &[60; 7]),
            HOST,
            malformed,
        ),
        row(
            "malformed::an_extension_header_beyond_the_end",
            with(with_extensions(tcp_v6(), &[60]), AFTER_IPV6 + 1, 200),
            HOST,
            malformed,
        ),
        row(
            "malformed::tcp_offset_below_20",
            with(tcp_v4(), AFTER_IPV4 + 12, 0x40),
            HOST,
            malformed,
        ),
        row(
            "malformed::tcp_offset_beyond_the_end",
            with(tcp_v4(), AFTER_IPV4 + 12, 0xf0),
            HOST,
            malformed,
        ),
        row(
            "malformed::udp_length_below_8",
            with(udp_v4(), AFTER_IPV4 + 5, 7),
            HOST,
            malformed,
        ),
        row(
            "malformed::udp_length_beyond_the_end",
            with(udp_v4(), AFTER_IPV4 + 5, 200),
            HOST,
            malformed,
        ),
        row(
            "malformed::destination_cut_off",
            cut(tcp_v4(), IP + 18),
            HOST,
            malformed,
        ),
        row("tcp_flags::none", flags(0), HOST, Dropped(TcpFlags)),
        row(
            "tcp_flags::syn_and_fin",
            flags(SYN | FIN),
            HOST,
            Dropped(TcpFlags),
        ),
        row(
            "tcp_flags::syn_and_rst",
            flags(SYN | RST),
            HOST,
            Dropped(TcpFlags),
        ),
        row("tcp_flags::fin_alone", flags(FIN), HOST, Dropped(TcpFlags)),
        row(
            "tcp_flags::christmas_tree",
            flags(FIN | PSH | URG),
            HOST,
            Dropped(TcpFlags),
        ),
        row(
            "tcp_flags::ipv6",
            tcp(CLIENT_V6, EDGE_V6, 80, SYN | FIN),
            HOST,
            Dropped(TcpFlags),
        ),
    ]
}

fn sources() -> Vec<Row> {
    let from = |source| syn(source, EDGE, 80);
    let from_v6 = |source| syn(source, EDGE_V6, 80);
    let martian = Dropped(Martian);
    vec![
        row("martian::loopback", from("127.0.0.1"), HOST, martian),
        row("martian::this_network", from("0.1.2.3"), HOST, martian),
        row("martian::multicast", from("224.0.0.1"), HOST, martian),
        row("martian::reserved", from("240.0.0.1"), HOST, martian),
        row("martian::broadcast", from("255.255.255.255"), HOST, martian),
        row("martian::land", syn(EDGE, EDGE, 80), HOST, martian),
        row("martian::ipv6_loopback", from_v6("::1"), HOST, martian),
        row("martian::ipv6_unspecified", from_v6("::"), HOST, martian),
        row("martian::ipv6_multicast", from_v6("ff02::1"), HOST, martian),
        row("martian::ipv6_land", from_v6(EDGE_V6), HOST, martian),
    ]
}
