use super::*;

fn after(bulk: &mut Bulk, times: usize, read: usize) -> bool {
    (0..times).for_each(|_| bulk.saw(read));
    bulk.is_on
}

/// Splicing costs latency, copying costs CPU: a flow has to prove what it is, either way.
#[test]
fn bulk_is_what_reads_much_for_a_while() {
    let mut bulk = Bulk::default();
    assert!(!after(&mut bulk, 7, 64 * 1024), "a web page is no bulk yet");
    assert!(after(&mut bulk, 1, 64 * 1024));
    assert!(
        after(&mut bulk, 100, 8 * 1024),
        "between the two: as it was"
    );
    assert!(after(&mut bulk, 7, 100));
    assert!(!after(&mut bulk, 1, 100));
    assert!(!after(&mut bulk, 1000, 100));
    assert!(!after(&mut bulk, 1000, 8 * 1024));
    assert!(after(&mut bulk, 8, 16 * 1024));
}
