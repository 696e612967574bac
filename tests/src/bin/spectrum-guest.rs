//! See [`spectrum_tests::guest`].

use anyhow::Result;

fn main() -> Result<()> {
    spectrum_tests::guest::main()
}
