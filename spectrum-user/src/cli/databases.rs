//! The databases of countries and autonomous systems, as a table.

use super::output;
use crate::geo::DatabaseStatus;

/// To be put below another table; nothing if there are none.
pub(super) fn table(databases: &[DatabaseStatus]) -> String {
    if databases.is_empty() {
        return String::new();
    }
    let mut table = output::table(&["database", "entries", "edition", "in use since", ""]);
    for database in databases {
        let error = database.error.as_ref();
        table.add_row([
            database.file.display().to_string(),
            output::count(database.entries as u64),
            output::time_or_none(database.edition),
            output::time_or_none(database.read),
            error.map_or_else(String::new, |error| format!("failed: {error}")),
        ]);
    }
    format!("\n{table}\n")
}
