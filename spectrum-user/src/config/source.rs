//! Documents as they were read, and places in them.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::errors::Problem;

/// The text of one document. Kept as long as something may have to point into it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// `help` says what to do about a file that is not there.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub(super) fn read(path: &Path, help: &str) -> Result<Arc<Self>, Problem> {
        let text = fs::read_to_string(path).map_err(|error| {
            let help = if error.kind() == io::ErrorKind::InvalidData {
                "save it as UTF-8"
            } else {
                help
            };
            Problem::unreadable(path, &error, help)
        })?;
        let path = path.to_owned();
        Ok(Arc::new(Self { path, text }))
    }

    /// A place of this document; a span that leaves the text is cut to it.
    pub(super) fn place(self: &Arc<Self>, span: Range<usize>) -> Place {
        let end = self.text.floor_char_boundary(span.end);
        let start = self.text.floor_char_boundary(span.start.min(end));
        Place {
            source: Arc::clone(self),
            span: start..end,
        }
    }
}

/// A stretch of a document.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    /// Bytes, on character boundaries.
    pub(super) span: Range<usize>,
}

impl Place {
    /// Line and column, from 1; columns count characters.
    pub(super) fn line_and_column(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}
