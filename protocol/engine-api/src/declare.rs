//! The macro that declares a type of the API once: its Rust fields, their
//! names on the wire, the order they are written in, the versions that know
//! them. Decoding, encoding and the template view come from this one list.

/// How one field appears on the wire.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpec {
    /// The name in JSON.
    pub wire: &'static str,
    /// The name in Go, which templates use.
    pub go: &'static str,
    /// Go's name of the type in error texts, where Rust's type doesn't tell.
    pub kind: Option<&'static str>,
    /// Left out when empty.
    pub omit: bool,
    /// The minor version (of major 1) that brought the field.
    pub since: u16,
    /// The first minor version without the field.
    pub until: u16,
    /// The fields of this struct stand in the outer object.
    pub embedded: bool,
    /// A list of strings that may also be given as one string.
    pub words: bool,
}

impl FieldSpec {
    /// A field called `wire` in JSON and in Go.
    pub const fn new(wire: &'static str) -> Self {
        Self {
            wire,
            go: wire,
            kind: None,
            omit: false,
            since: 0,
            until: u16::MAX,
            embedded: false,
            words: false,
        }
    }
    /// Left out when empty (Go's `omitempty`).
    #[must_use]
    pub const fn omitempty(mut self) -> Self {
        self.omit = true;
        self
    }
    /// Written only from version 1.`minor` on.
    #[must_use]
    pub const fn since(mut self, minor: u16) -> Self {
        self.since = minor;
        self
    }
    /// Written only before version 1.`minor`.
    #[must_use]
    pub const fn until(mut self, minor: u16) -> Self {
        self.until = minor;
        self
    }
    /// Called `name` in Go.
    #[must_use]
    pub const fn go(mut self, name: &'static str) -> Self {
        self.go = name;
        self
    }
    /// Of the Go type `name`.
    #[must_use]
    pub const fn kind(mut self, name: &'static str) -> Self {
        self.kind = Some(name);
        self
    }
    /// Its members stand in the outer object.
    #[must_use]
    pub const fn embedded(mut self) -> Self {
        self.embedded = true;
        self
    }
    /// One string stands for a list of one.
    #[must_use]
    pub const fn words(mut self) -> Self {
        self.words = true;
        self
    }
    /// Whether `version` knows the field.
    pub const fn in_version(&self, version: crate::ApiVersion) -> bool {
        version.major != 1 || (version.minor >= self.since && version.minor < self.until)
    }
    /// Whether a key in JSON means this field: exactly, or in any case.
    pub fn matches(&self, key: &str, fold: bool) -> bool {
        if fold { self.wire.eq_ignore_ascii_case(key) } else { self.wire == key }
    }
}

/// Declares types: `Name = "go.Name" { field: Type = "Wire".option().option(); }`.
/// The options are the methods of `FieldSpec`. `as "x"` after the Go name says
/// how error texts call a field's owner when it is the outermost type.
macro_rules! api {
    ($(
        $(#[$meta:meta])*
        $name:ident = $go:literal $(as $root:literal)? {
            $( $field:ident : $ty:ty = $wire:literal $(. $opt:ident ( $($arg:expr),* ))* ; )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $( #[doc = concat!("`", $wire, "` on the wire.")] pub $field: $ty, )*
        }

        impl $name {
            /// How each field appears on the wire, in order.
            pub const FIELDS: &'static [$crate::FieldSpec] =
                &[$( $crate::FieldSpec::new($wire)$(.$opt($($arg),*))*, )*];
        }

        #[allow(unused_variables)]
        impl $crate::Wire for $name {
            fn go_type() -> String {
                $go.to_string()
            }
            fn root_name() -> String {
                $( return $root.to_string(); )?
                #[allow(unreachable_code)]
                $go.rsplit('.').next().unwrap_or($go).to_string()
            }
            fn decode(&mut self, value: &$crate::Value, d: &mut $crate::Decoder) {
                d.object(value, $go, |key, fold, value, d| self.decode_member(key, fold, value, d));
            }
            fn decode_member(
                &mut self,
                key: &str,
                fold: bool,
                value: &$crate::Value,
                d: &mut $crate::Decoder,
            ) -> bool {
                $({
                    const S: $crate::FieldSpec = $crate::FieldSpec::new($wire)$(.$opt($($arg),*))*;
                    if S.embedded {
                        if $crate::Wire::decode_member(&mut self.$field, key, fold, value, d) {
                            return true;
                        }
                    } else if S.matches(key, fold) {
                        d.enter(key, S.kind);
                        if S.words {
                            $crate::Wire::decode_words(&mut self.$field, value, d);
                        } else {
                            $crate::Wire::decode(&mut self.$field, value, d);
                        }
                        d.leave();
                        return true;
                    }
                })*
                false
            }
            fn encode(&self, e: &mut $crate::Encoder) {
                e.begin_object();
                self.encode_members(e);
                e.end_object();
            }
            fn encode_members(&self, e: &mut $crate::Encoder) {
                $({
                    const S: $crate::FieldSpec = $crate::FieldSpec::new($wire)$(.$opt($($arg),*))*;
                    if S.embedded {
                        $crate::Wire::encode_members(&self.$field, e);
                    } else if S.in_version(e.version())
                        && !(S.omit && $crate::Wire::is_empty(&self.$field))
                    {
                        e.key(S.wire);
                        $crate::Wire::encode(&self.$field, e);
                    }
                })*
            }
            fn show(&self) -> $crate::Shown<'_> {
                $crate::Shown::Struct(self)
            }
            fn zero<'a>() -> $crate::Shown<'a> {
                $crate::Shown::Nil($crate::Nil::Pointer)
            }
        }

        #[allow(unused_variables)]
        impl $crate::view::Fields for $name {
            fn type_name(&self) -> &str {
                $go
            }
            fn field(&self, name: &str) -> Option<$crate::Shown<'_>> {
                $({
                    const S: $crate::FieldSpec = $crate::FieldSpec::new($wire)$(.$opt($($arg),*))*;
                    let shown = $crate::Wire::show(&self.$field);
                    if S.embedded {
                        if let $crate::Shown::Struct(inner) = shown {
                            if let Some(found) = inner.field(name) {
                                return Some(found);
                            }
                        }
                    } else if S.go == name {
                        return Some(shown);
                    }
                })*
                None
            }
            fn fields(&self) -> Vec<(&'static str, $crate::Shown<'_>)> {
                vec![$({
                    const S: $crate::FieldSpec = $crate::FieldSpec::new($wire)$(.$opt($($arg),*))*;
                    (S.go, $crate::Wire::show(&self.$field))
                },)*]
            }
            fn json(&self) -> $crate::Value {
                $crate::json::parse($crate::encode(self, $crate::ApiVersion::MAX).as_bytes())
                    .unwrap_or_default()
            }
        }

        impl serde::Serialize for $name {
            /// For records: the newest version's form.
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                $crate::wire::serialize(self, s)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $crate::wire::deserialize(d)
            }
        }
    )*};
}
