//! Mount options: the words of config.json turned into what the mount calls take. Pure.

use sys::mount::attr;

/// `MS_*` bits of propagation, as mount(2) and mount_setattr(2) share them.
pub(crate) mod propagation {
    /// No propagation, can't be bound.
    pub(crate) const UNBINDABLE: u64 = 1 << 17;
    /// No propagation.
    pub(crate) const PRIVATE: u64 = 1 << 18;
    /// Receives.
    pub(crate) const SLAVE: u64 = 1 << 19;
    /// Sends and receives.
    pub(crate) const SHARED: u64 = 1 << 20;
}

/// What a mount's options say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// A bind mount; with everything below the source when `recursive`.
    pub bind: bool,
    /// Whether the bind takes what is mounted below along.
    pub recursive: bool,
    /// Attributes set on the mount.
    pub set: u64,
    /// Attributes cleared.
    pub clear: u64,
    /// Attributes set on the whole tree.
    pub set_all: u64,
    /// Attributes cleared on the whole tree.
    pub clear_all: u64,
    /// Flags of the file system itself, such as `ro` and `sync`.
    pub fs_flags: Vec<&'static str>,
    /// Propagation, in order; the bool says recursive.
    pub propagation: Vec<(u64, bool)>,
    /// What is the file system's own: `mode=755`.
    pub data: Vec<String>,
    /// Copy what the folder holds into the tmpfs.
    pub copy_up: bool,
    /// Map ids: the bool says for the whole tree.
    pub idmap: Option<bool>,
    /// Change an existing mount.
    pub remount: bool,
}

/// Words that set or clear attributes of a mount; with `r` in front they mean the whole tree.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("relatime", 0, attr::ATIME),
    ("norelatime", 0, 0),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("atime", 0, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("nostrictatime", 0, attr::ATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

/// Flags of the file system; an empty name is a default that needs no word.
const FS_FLAGS: [(&str, &str); 13] = [
    ("sync", "sync"),
    ("async", ""),
    ("dirsync", "dirsync"),
    ("mand", "mand"),
    ("nomand", ""),
    ("lazytime", "lazytime"),
    ("nolazytime", ""),
    ("iversion", ""),
    ("noiversion", ""),
    ("silent", ""),
    ("loud", ""),
    ("defaults", ""),
    ("acl", "acl"),
];

const PROPAGATIONS: [(&str, u64); 4] = [
    ("private", propagation::PRIVATE),
    ("shared", propagation::SHARED),
    ("slave", propagation::SLAVE),
    ("unbindable", propagation::UNBINDABLE),
];

/// A propagation word, recursive when it begins with `r`.
pub(crate) fn parse_propagation(word: &str) -> Option<(u64, bool)> {
    let find = |name: &str| PROPAGATIONS.iter().find(|(n, _)| *n == name).map(|(_, bit)| *bit);
    match find(word) {
        Some(bit) => Some((bit, false)),
        None => find(word.strip_prefix('r')?).map(|bit| (bit, true)),
    }
}

/// Every word that `parse` understands, sorted, for the features document.
pub(crate) fn known() -> Vec<String> {
    let mut all: Vec<String> = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"]
        .iter()
        .map(|w| (*w).to_owned())
        .collect();
    all.extend(FS_FLAGS.iter().filter(|(w, _)| *w != "acl").map(|(w, _)| (*w).to_owned()));
    for (word, _, _) in ATTRIBUTES {
        all.push(word.to_owned());
        all.push(format!("r{word}"));
    }
    for (word, _) in PROPAGATIONS {
        all.push(word.to_owned());
        all.push(format!("r{word}"));
    }
    // "ratime" reads as recursive atime, "relatime" is a word of its own: no other collisions.
    all.sort();
    all.dedup();
    all
}

impl Options {
    /// Reads the words in order; later ones override.
    pub(crate) fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        for word in words {
            options.word(word);
        }
        options
    }

    fn word(&mut self, word: &str) {
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(n, _, _)| *n == name);
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            _ => {
                if let Some((_, set, clear)) = attribute(word) {
                    self.set = self.set & !clear | set;
                    self.clear = self.clear & !set | clear;
                    self.flag(word);
                } else if let Some((_, set, clear)) = word.strip_prefix('r').and_then(attribute) {
                    self.set_all = self.set_all & !clear | set;
                    self.clear_all = self.clear_all & !set | clear;
                } else if let Some((_, flag)) = FS_FLAGS.iter().find(|(n, _)| *n == word) {
                    if !flag.is_empty() {
                        self.fs_flags.push(flag);
                    }
                } else if let Some(found) = parse_propagation(word) {
                    self.propagation.push(found);
                } else if !word.is_empty() {
                    self.data.push(word.to_owned());
                }
            }
        }
    }

    /// `ro` is a flag of the file system as well as of the mount.
    fn flag(&mut self, word: &str) {
        match word {
            "ro" => self.fs_flags.push("ro"),
            "rw" => self.fs_flags.retain(|f| *f != "ro"),
            _ => {}
        }
    }

    /// Whether the mount is to be read-only.
    pub(crate) fn read_only(&self) -> bool {
        self.set & attr::RDONLY != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        assert!(!parse("ro,rw").read_only());
        assert!(parse("rw,ro").read_only());
        assert!(parse("ro,rw").fs_flags.is_empty());
    }

    #[test]
    fn recursive_words_are_for_the_tree() {
        let options = parse("rbind,rro,rprivate");
        assert_eq!((options.set, options.set_all), (0, attr::RDONLY));
        assert_eq!(options.propagation, [(propagation::PRIVATE, true)]);
        assert!(options.recursive);
    }

    #[test]
    fn what_is_not_known_belongs_to_the_file_system() {
        let options = parse("nosuid,strictatime,mode=755,size=65536k");
        assert_eq!(options.data, ["mode=755", "size=65536k"]);
        assert_eq!(options.set, attr::NOSUID | attr::STRICTATIME);
        // The kernel wants the whole field cleared when a new mode is set.
        assert_eq!(options.clear & attr::ATIME, attr::ATIME);
    }

    /// Words that take each other back, and the bit that tells which came last.
    const OPPOSITES: [(&str, &str, u64); 6] = [
        ("ro", "rw", attr::RDONLY),
        ("nosuid", "suid", attr::NOSUID),
        ("nodev", "dev", attr::NODEV),
        ("noexec", "exec", attr::NOEXEC),
        ("nodiratime", "diratime", attr::NODIRATIME),
        ("nosymfollow", "symfollow", attr::NOSYMFOLLOW),
    ];

    proptest! {
        #[test]
        fn of_opposites_the_last_counts_on_the_mount_and_on_the_tree_apart(
            words in prop::collection::vec(prop::sample::select(known()), 0..20),
        ) {
            let options = Options::parse(&words);
            for (on, off, bit) in OPPOSITES {
                let last = |on: &str, off: &str| words.iter().rev().find(|w| *w == on || *w == off).cloned();
                for (prefix, set, clear) in
                    [("", options.set, options.clear), ("r", options.set_all, options.clear_all)]
                {
                    let (on, off) = (format!("{prefix}{on}"), format!("{prefix}{off}"));
                    let said = last(&on, &off);
                    prop_assert_eq!(set & bit != 0, said.as_ref() == Some(&on), "{:?}", &words);
                    prop_assert_eq!(clear & bit != 0, said.as_ref() == Some(&off), "{:?}", &words);
                }
            }
        }

        #[test]
        fn what_is_the_file_systems_own_keeps_its_order_among_any_words(
            words in prop::collection::vec(prop::sample::select(known()), 0..8),
            own in prop::collection::vec("[a-z]{3,8}=[0-9a-z/]{0,6}", 0..4),
            at in 0usize..8,
        ) {
            let (before, after) = words.split_at(at.min(words.len()));
            let options = Options::parse(&[before, &own, after].concat());
            prop_assert_eq!(options.data, own);
        }

        #[test]
        fn nothing_is_both_set_and_cleared(words in prop::collection::vec(prop::sample::select(known()), 0..12)) {
            let options = Options::parse(&words);
            prop_assert_eq!(options.set & options.clear & !attr::ATIME, 0);
            prop_assert!(options.data.is_empty());
        }
    }
}
