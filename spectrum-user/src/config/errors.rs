//! What is wrong with a configuration, where, and what to do about it.

use std::{error::Error, fmt, io, path::Path};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::source::Place;

/// Everything that is wrong with a configuration; at least one problem.
///
/// `Display` shows each with file, line, column and a caret under the value.
#[derive(Debug)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl Errors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.position().cmp(&b.position()));
        Self { problems }
    }

    /// The documents want more than a table holds.
    pub fn no_room(document: &Path, table: &str, capacity: usize, help: &str) -> Self {
        Self::new(vec![Problem {
            what: format!(
                "`{}` and its apps do not fit: the table `{table}` has room for {capacity}",
                document.display()
            ),
            marks: Vec::new(),
            help: Some(help.to_owned()),
        }])
    }

    /// What is wrong with files that documents name, and what to do about each.
    pub fn in_files(flaws: impl IntoIterator<Item = (String, String)>) -> Self {
        let problem = |(what, help)| Problem {
            what,
            marks: Vec::new(),
            help: Some(help),
        };
        Self::new(flaws.into_iter().map(problem).collect())
    }

    /// The whole report as text; `styled` for terminals that know colours.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let reports: Vec<String> = self
            .problems
            .iter()
            .map(|problem| renderer.render(&problem.groups()))
            .collect();
        reports.join("\n\n")
    }

    /// The same for programs.
    pub fn findings(&self) -> Vec<Finding> {
        self.problems.iter().map(Problem::finding).collect()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Error for Errors {}

/// One problem, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) what: String,
    /// Where, and what was expected there. A second mark shows what the first is at odds with.
    pub(super) marks: Vec<Mark>,
    pub(super) help: Option<String>,
}

#[derive(Debug)]
pub(super) struct Mark {
    pub(super) place: Place,
    pub(super) label: String,
}

impl Problem {
    /// A file or directory that cannot be read.
    pub(super) fn unreadable(path: &Path, error: &io::Error, help: &str) -> Self {
        Self {
            what: format!("cannot read `{}`: {error}", path.display()),
            marks: Vec::new(),
            help: Some(help.to_owned()),
        }
    }

    /// Problems are shown in the order of the documents and of the lines in them.
    fn position(&self) -> Option<(&Path, usize)> {
        let place = &self.marks.first()?.place;
        Some((&place.source.path, place.span.start))
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.what.as_str()));
        for (snippet, _) in self.snippets() {
            group = group.element(snippet);
        }
        let Some(help) = &self.help else {
            return vec![group];
        };
        if self.marks.is_empty() {
            return vec![
                group,
                Group::with_title(Level::HELP.secondary_title(help.as_str())),
            ];
        }
        vec![group.element(Level::HELP.message(help.as_str()))]
    }

    /// One snippet for each document: two marks in the same one are shown together.
    fn snippets(&self) -> Vec<(Snippet<'_, annotate_snippets::Annotation<'_>>, &Path)> {
        let mut snippets: Vec<(Snippet<'_, _>, &Path)> = Vec::new();
        let kinds = [AnnotationKind::Primary, AnnotationKind::Context];
        for (mark, kind) in self.marks.iter().zip(kinds) {
            let source = &mark.place.source;
            let annotation = kind
                .span(mark.place.span.clone())
                .label(mark.label.as_str());
            let (snippet, path) = match snippets.pop() {
                Some((snippet, path)) if path == source.path => (snippet, path),
                other => {
                    snippets.extend(other);
                    let path = source.path.to_string_lossy();
                    (
                        Snippet::source(source.text.as_str()).path(path),
                        source.path.as_path(),
                    )
                }
            };
            snippets.push((snippet.annotation(annotation), path));
        }
        snippets
    }

    fn finding(&self) -> Finding {
        let mark = self.marks.first();
        let position = mark.map(|mark| mark.place.line_and_column());
        Finding {
            message: self.what.clone(),
            file: mark.map(|mark| mark.place.source.path.display().to_string()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            expected: mark.map(|mark| mark.label.clone()),
            help: self.help.clone(),
        }
    }
}
