//! What a location promises about those whose requests reach its content.

/// The promise of a location, and what its content is recognised by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// Only a token with the role `admin` passes.
    Admin,
    /// Everybody passes; the identity is that of a valid token, or there is none.
    Delay,
    /// `keystone_auth off`: no promise.
    Off,
    /// Only a valid token passes.
    On,
    /// No promise but that the identity headers of clients are removed.
    Stripped,
    /// Only a token that may use the account of Swift passes.
    Swift,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::Delay, Self::Off, Self::On, Self::Stripped, Self::Swift];

    /// Its name in the configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Delay => "DELAY",
            Self::Off => "OFF",
            Self::On => "ON",
            Self::Stripped => "STRIPPED",
            Self::Swift => "SWIFT",
        }
    }

    /// Whether a request without a valid token must not get the content.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Admin | Self::On | Self::Swift)
    }

    /// What its content holds, so that it is recognised among the bytes that a client receives.
    pub fn content(self) -> String {
        format!("[content {}]\n", self.name())
    }
}

/// How many requests of a connection carry tokens that open which guard: an upper bound for how
/// often their content may come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Grants {
    /// Tokens with the role `admin`.
    pub admin: usize,
    /// Tokens that may use the account.
    pub swift: usize,
    /// Number of valid tokens.
    pub valid: usize,
}

impl Grants {
    /// Tokens that no location accepts.
    pub const NONE: Self = Self { admin: 0, swift: 0, valid: 0 };

    /// How many of them open `guard`; `None` where everybody passes.
    pub fn opening(self, guard: Guard) -> Option<usize> {
        match guard {
            Guard::Admin => Some(self.admin),
            Guard::On => Some(self.valid),
            Guard::Swift => Some(self.swift),
            Guard::Delay | Guard::Off | Guard::Stripped => None,
        }
    }

    /// Counts those of another request as well.
    pub fn add(&mut self, other: Self) {
        self.admin += other.admin;
        self.swift += other.swift;
        self.valid += other.valid;
    }
}
