#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::proxy::plan;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `(address, port, weight, rank)` of each.
fn members(answer: &Answer, app: &App) -> Vec<(String, u16, u16, u16)> {
    let members = answer.members(app).into_iter();
    members
        .map(|member| {
            let Origin { ip, first_port } = member.origin;
            (ip.to_string(), first_port, member.weight, member.rank)
        })
        .collect()
}

fn app() -> std::sync::Arc<App> {
    plan::tests::app(1, (22, 22), EdgeIps::Static(vec![ip("192.0.2.99")]))
}

#[test]
fn priorities_are_ranks_and_weights_keep_their_proportion() {
    let mut answer = Answer::default();
    answer.add(vec![ip("192.0.2.3")], 22, 20, 0);
    answer.add(vec![ip("2001:db8::1"), ip("192.0.2.2")], 2222, 10, 60_000);
    answer.add(vec![ip("192.0.2.1")], 22, 10, 15_000);
    answer.add(vec![ip("192.0.2.1")], 22, 30, 1);
    let expected = [
        ("192.0.2.1", 22, 64, 0),
        ("192.0.2.2", 2222, 256, 0),
        ("2001:db8::1", 2222, 256, 0),
        ("192.0.2.3", 22, 1, 1),
    ];
    let expected = expected.map(|(ip, port, weight, rank)| (ip.to_owned(), port, weight, rank));
    assert_eq!(members(&answer, &app()), expected);
}

#[test]
fn what_leads_nowhere_or_back_here_is_left_out() {
    let mut answer = Answer::default();
    let bad = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "fe80::1"];
    answer.add(bad.map(ip).to_vec(), 22, 0, 1);
    answer.add(vec![ip("192.0.2.99")], 22, 0, 1);
    answer.add(vec![ip("192.0.2.1")], 0, 0, 1);
    answer.add(vec![ip("192.0.2.99")], 23, 0, 1);
    let expected = [("192.0.2.99".to_owned(), 23, 1, 0)];
    assert_eq!(members(&answer, &app()), expected);
}

#[test]
fn there_are_never_more_than_an_app_may_have() {
    let mut answer = Answer::default();
    let many = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
    answer.add(many.collect(), 22, 0, 1);
    assert_eq!(answer.members(&app()).len(), Origins::MAX);
}

#[test]
fn an_answer_is_as_old_as_its_oldest_part() {
    let now = Instant::now();
    let mut answer = Answer::default();
    assert_eq!(answer.left(now), Duration::ZERO);
    answer.expires(now + Duration::from_secs(9));
    answer.expires(now + Duration::from_secs(5));
    answer.expires(now + Duration::from_secs(7));
    assert_eq!(answer.left(now), Duration::from_secs(5));
}
