//! The table of what is found: each kind's name, how bad it is and what it is about.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// True, and no fault as long as it is meant.
    Note,
    /// Probably not meant.
    Warning,
    /// Cannot be meant: it does nothing, or nothing that it says.
    Error,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

macro_rules! kinds {
    ($($id:ident $level:ident $name:literal $doc:literal)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $(#[doc = $doc] $id),* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$id),*];

            /// Its name, level and a line about it.
            pub fn row(self) -> (&'static str, Level, &'static str) {
                match self { $(Kind::$id => ($name, Level::$level, $doc)),* }
            }
        }
    };
}

kinds! {
    Syntax Error "syntax" "The line is no flow."
    NotMeant Error "not-meant" "Open vSwitch takes the line, but not for what it says: a value is cut, or the later of two that contradict each other wins."
    IgnoredMatch Error "ignored-match" "A field without its prerequisite does not exist and is ignored: the rule matches more than it says."
    ImpossibleState Error "impossible-state" "No packet has these connection states together, like +new+est."
    Untracked Error "untracked" "The rule wants what conntrack says, and no way to its table passes ct(table=...) (or it wants untracked packets where there are none)."
    Replaced Warning "replaced" "A later line has the same table, priority and match, and replaces this one."
    Shadowed Warning "shadowed" "Rules of higher priority take every packet that this one matches."
    Ambiguous Warning "ambiguous" "Two rules of equal priority match the same packets and do different things: which acts is not defined."
    NotCompared Note "not-compared" "So many rules overlap some that not all of them were compared: shadows and quarrels among these may be missing here."
    UnreachedTable Warning "unreached-table" "No rule that can match leads to the table, neither by resubmit nor goto_table nor ct(table=...)."
    EmptyTable Warning "empty-table" "A lookup in a table without rules finds nothing: the packet is dropped there."
    EndlessResubmit Error "endless-resubmit" "The unchanged packet comes back to the same rule until the limit drops it."
    NoTrk Note "no-trk" "+new and the like without +trk: right, since an untracked packet has no other flag, but it does not show."
    UntrackedToo Warning "untracked-too" "-new, -est and the like without +trk also match packets that were never tracked, and such packets come here."
    NoRel Warning "no-rel" "A table asks for +new or +est, and no line is for +rel: ICMP errors of allowed connections are lost (path MTU, unreachable ports), and FTP's data connections."
    NoInv Note "no-inv" "A table asks for +new or +est, and no line is for +inv: invalid packets are dropped without being counted on a line of their own."
    InvForwarded Warning "inv-forwarded" "A table asks for +new or +est, and a rule that does not ask for the state forwards invalid packets."
    NoCommit Warning "no-commit" "A rule lets new connections through and never commits them: their packets and answers never become +est."
    MissingPort Error "missing-port" "The switch has no such port."
    SamePort Warning "same-port" "A packet is not sent back to the port it came from, unless by in_port."
    ConjWithoutClauses Error "conj-without-clauses" "A rule matches a conj_id that no conjunction() of its table gives."
    ConjIncomplete Error "conj-incomplete" "Some dimension of a conjunction has no rule, or its rules differ in priority or in the number of dimensions: it never holds."
    ConjUnused Warning "conj-unused" "No rule of the table matches the conj_id of a conjunction."
    MissingGroup Error "missing-group" "The files of groups have no such group."
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// How bad it is.
    pub fn level(self) -> Level {
        self.row().1
    }
}
