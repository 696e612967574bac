//! Connection events: one record per thing that happens to a connection.

/// Takes records from the proxy without ever blocking it.
pub struct Sink;
