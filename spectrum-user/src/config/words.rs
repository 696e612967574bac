//! Choices that documents write as a word.

/// Gives an enum its words: `WORDS` to read them, `word` and `Display` to write them.
macro_rules! words {
    ($choice:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $choice {
            /// Every choice, and how documents write it.
            pub const WORDS: &[(&'static str, Self)] = &[$(($word, Self::$variant)),*];

            /// How documents write it.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

pub(super) use words;
