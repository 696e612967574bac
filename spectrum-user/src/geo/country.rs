//! Countries, by the two letters of ISO 3166-1.

use std::fmt;

use serde::{Serialize, Serializer};

/// Two letters. A database may have others than the standard has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// The officially assigned codes, and Kosovo's, which everybody uses.
const CODES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS \
    BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE \
    EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM \
    HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC \
    LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA \
    NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO \
    TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

impl Country {
    /// What documents write for addresses that no database knows.
    pub const UNKNOWN: Self = Self(*b"XX");

    /// How many pairs of letters there are.
    pub(super) const COUNT: usize = 26 * 26;

    /// From two capital letters. What databases write for "nobody knows" is [`Country::UNKNOWN`].
    pub fn parse(text: &str) -> Option<Self> {
        match *text.as_bytes() {
            [b'?', b'?'] | [b'Z', b'Z'] => Some(Self::UNKNOWN),
            [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Some(Self([a, b])),
            _ => None,
        }
    }

    /// Whether it is one of the standard, or stands for none.
    pub fn is_assigned(self) -> bool {
        self == Self::UNKNOWN || CODES.split(' ').any(|code| code.as_bytes() == self.0)
    }

    /// The codes whose letters are nearly these: the same in the other order, or one of them.
    pub fn similar(text: &str) -> impl Iterator<Item = &'static str> {
        let upper = text.to_ascii_uppercase();
        let turned: String = upper.chars().rev().collect();
        let codes = CODES.split(' ');
        codes.filter(move |code| *code == upper || *code == turned)
    }

    /// A number below [`Country::COUNT`].
    pub(super) fn number(self) -> usize {
        let [a, b] = self.0.map(|letter| usize::from(letter - b'A'));
        26 * a + b
    }
}

impl Default for Country {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
