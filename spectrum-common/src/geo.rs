//! Countries and autonomous systems: what rules ask of a source's address, as one table that user
//! space builds and the program reads.
//!
//! What a rule asks (is its country one of these? its system?) is a *question*, and has a number.
//! Addresses for which the same questions are answered with yes are of one *class*, and neighbours of
//! one class need no more room than one: however large the databases, the table only holds what
//! rules ask. It is a trie of the upper half of an address: the root leads by 16 bits, each node
//! below by 8.
//!
//! | lines | what |
//! |---|---|
//! | 1 | [`header`] |
//! | [`IDENTITY_LINES`] | a word for each question: which one it is; 0 = none |
//! | [`ROOT_LINES`] | IPv4: an entry of 32 bits for each /16 |
//! | [`ROOT_LINES`] | IPv6: the same |
//! | as many as the header says | classes: the answers to all questions, one bit each |
//! | the rest | nodes, and what does not fit into one |
//!
//! A node is one line that stands for 256 networks. Those that follow each other in the same class
//! are a run; four words have a bit for each network that begins one, so that the ones up to a
//! network's bit count its run. The fifth word says how many of these ones the first words have
//! ([`link`]), so that one word at most has to be counted, and three words hold the values of the
//! runs, 16 bits each; more of them fill lines of their own. A value is a class, or ([`CHILD`]) a
//! node below.
//!
//! A table without questions is its header alone.

/// Questions that a table can answer. A configuration may ask half of them: the other half is for
/// what the one before it asked.
pub const QUESTIONS: u32 = 128;

/// The question that is answered with yes for every address: the number of those who do not ask.
pub const ANYWHERE: u32 = 0;

/// Questions of one configuration, beside [`ANYWHERE`].
pub const MAX_QUESTIONS: usize = (QUESTIONS as usize - 1) / 2;

/// The answers to all questions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answers {
    /// The bit of question 0 is the lowest of the first word.
    pub words: [u64; 2],
}

/// Those about an address of which nothing is known.
impl Default for Answers {
    #[inline(always)]
    fn default() -> Self {
        Self {
            words: [1 << ANYWHERE, 0],
        }
    }
}

/// Words of the first line.
pub mod header {
    /// Digest of what the table was built from, for whoever would build it again.
    pub const DIGEST: usize = 0;
    /// How many classes there are.
    pub const CLASSES: usize = 1;
}

/// Eight words to a line.
pub const IDENTITY_LINES: u32 = QUESTIONS / 8;
/// Sixteen entries to a line; 256 KiB.
pub const ROOT_LINES: u32 = (1 << 16) / 16;
/// Classes in a line.
pub const CLASSES_PER_LINE: u32 = 4;

/// An entry of the root, or a value made into one, leads to the node on this line and is no class.
pub const NODE: u32 = 1 << 31;

/// A value of a run leads to a child of the node, by its number, and is no class.
pub const CHILD: u16 = 1 << 15;

/// Classes, and children of a node, are fewer than this.
pub const MAX_CLASSES: usize = CHILD as usize;

/// Words of a node.
pub mod node {
    /// Four words of bits.
    pub const BITS: usize = 0;
    /// See [`link`](super::link).
    pub const LINK: usize = 4;
    /// Three words of values, the first one lowest.
    pub const VALUES: usize = 5;
    /// So many values fit.
    pub const INLINE: usize = 12;
    /// So many are in each of the lines for those that do not.
    pub const PER_LINE: usize = 32;
}

/// Parts of the fifth word of a node.
pub mod link {
    /// From here on, eight bits for each of the words of bits: the ones in those before it.
    pub const ONES_SHIFT: u32 = 0;
    /// The bits for the first word are always zero, and instead say how many lines hold values; 0:
    /// they are in the node.
    pub const SPILL_MASK: u64 = 0xff;
    /// From here on: the line at which the values begin, if they are not in the node, and its
    /// children after these.
    pub const BASE_SHIFT: u32 = 32;
}

/// Where the parts of the table begin.
pub mod first_line {
    use super::{IDENTITY_LINES, ROOT_LINES};

    pub const HEADER: u32 = 0;
    pub const IDENTITIES: u32 = 1;
    pub const ROOT_V4: u32 = IDENTITIES + IDENTITY_LINES;
    pub const ROOT_V6: u32 = ROOT_V4 + ROOT_LINES;
    pub const CLASSES: u32 = ROOT_V6 + ROOT_LINES;
}

/// What [`App::geo`](crate::app::App::geo) is made of: who asks questions.
pub mod asked_by {
    /// The app itself: which countries and systems it admits.
    pub const APP: u32 = 1;
    /// Custom rules of it or of the host.
    pub const RULES: u32 = 2;
}
