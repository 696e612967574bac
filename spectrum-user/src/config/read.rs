//! From the text of documents to valid types, with everything that is wrong on the way.

mod address;
mod app;
mod feeds;
mod health;
mod host;
mod limits;
mod origins;
mod places;
mod protection;
mod routing;
mod rules;
mod scalar;
mod table;
mod tls;
mod value;

pub(super) use app::{AppDraft, EdgeClaim, Placed, read as app};
pub(super) use host::read as host;
pub(super) use places::no_database;
