//! A subnet in CIDR notation, IPv4 or IPv6. Nothing here allocates.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A subnet: a network address whose host bits are zero, and the number of leading network bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    network: IpAddr,
    len: u8,
}

/// The text is no CIDR block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR block notation")]
pub struct InvalidPrefix;

impl Prefix {
    /// The subnet of `len` leading bits that holds `address`; `None` when `len` exceeds the
    /// family's width.
    pub fn containing(address: IpAddr, len: u8) -> Option<Self> {
        if len > width(address) {
            return None;
        }
        let masked = to_bits(address) & !host_mask(width(address), len);
        Some(Self { network: from_bits(masked, address.is_ipv4()), len })
    }

    /// Parses `address/length` and also returns the address as written, host bits included.
    pub fn parse_with_address(text: &str) -> Result<(IpAddr, Self), InvalidPrefix> {
        let (address, len) = text.split_once('/').ok_or(InvalidPrefix)?;
        if len.is_empty() || len.len() > 3 || !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidPrefix);
        }
        let address: IpAddr = address.parse().map_err(|_| InvalidPrefix)?;
        let len: u8 = len.parse().map_err(|_| InvalidPrefix)?;
        let prefix = Self::containing(address, len).ok_or(InvalidPrefix)?;
        Ok((address, prefix))
    }

    /// The first address, with all host bits zero.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// The last address, with all host bits one (IPv4: the broadcast address).
    pub fn last(&self) -> IpAddr {
        let mask = host_mask(width(self.network), self.len);
        from_bits(to_bits(self.network) | mask, self.is_ipv4())
    }

    /// The number of leading network bits.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether the subnet is all addresses of its family.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this is an IPv4 subnet.
    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    /// Whether `address` lies in the subnet; never true across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4()
            && Self::containing(address, self.len).is_some_and(|p| p.network == self.network)
    }

    /// Whether `other` lies wholly in the subnet.
    pub fn contains_prefix(&self, other: &Prefix) -> bool {
        self.len <= other.len && self.contains(other.network)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.contains_prefix(other) || other.contains_prefix(self)
    }

    pub(crate) fn first_bits(&self) -> u128 {
        to_bits(self.network)
    }

    pub(crate) fn last_bits(&self) -> u128 {
        to_bits(self.last())
    }
}

pub(crate) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn host_mask(width: u8, len: u8) -> u128 {
    match width - len {
        0 => 0,
        bits => u128::MAX >> (128 - u32::from(bits)),
    }
}

pub(crate) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

pub(crate) fn from_bits(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;
    /// Accepts any address of the subnet and keeps the subnet.
    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        Self::parse_with_address(text).map(|(_, prefix)| prefix)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cut_and_the_written_address_is_kept() {
        let (address, prefix) = Prefix::parse_with_address("10.1.2.3/24").unwrap();
        assert_eq!(address.to_string(), "10.1.2.3");
        assert_eq!(prefix.to_string(), "10.1.2.0/24");
        assert_eq!(prefix.last().to_string(), "10.1.2.255");
    }

    #[test]
    fn nonsense_is_no_prefix() {
        for text in
            ["", "bad", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "1.2.3/8", "1.2.3.4/+8"]
        {
            assert_eq!(text.parse::<Prefix>(), Err(InvalidPrefix), "{text}");
        }
    }

    #[test]
    fn families_never_overlap() {
        let four: Prefix = "0.0.0.0/0".parse().unwrap();
        let six: Prefix = "::/0".parse().unwrap();
        assert!(!four.overlaps(&six));
    }
}
