//! Choosing subnets, and handing out addresses of one subnet next-after-last, so that an address
//! just freed is the last to come back. What the kernel really holds is the caller's to reserve.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::prefix::{Prefix, from_bits, to_bits};

/// A range of addresses that is cut into subnets of one size, as in `default-address-pools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBase {
    /// The whole range.
    pub base: Prefix,
    /// The length of the subnets it is cut into; at least the base's own.
    pub size: u8,
}

/// The ranges that a stock engine takes its local networks from, in its order.
pub fn docker_pools() -> Vec<PoolBase> {
    let v4 = |a: u8, b: u8, len: u8, size: u8| {
        Prefix::containing(IpAddr::from([a, b, 0, 0]), len).map(|base| PoolBase { base, size })
    };
    (17..=31).filter_map(|n| v4(172, n, 16, 16)).chain(v4(192, 168, 16, 20)).collect()
}

/// The first subnet of `pools` that overlaps nothing in `used`.
///
/// Each step either yields or jumps past a used range, so the work is bounded by
/// `pools × used`, however large a pool is.
pub fn choose(pools: &[PoolBase], used: &[Prefix]) -> Option<Prefix> {
    pools.iter().find_map(|pool| choose_in(pool, used))
}

fn choose_in(pool: &PoolBase, used: &[Prefix]) -> Option<Prefix> {
    if pool.size < pool.base.len() {
        return None;
    }
    let v4 = pool.base.is_ipv4();
    let mut candidate = Prefix::containing(pool.base.network(), pool.size)?;
    loop {
        let Some(hit) =
            used.iter().filter(|u| u.overlaps(&candidate)).max_by_key(|u| u.last_bits())
        else {
            return Some(candidate);
        };
        let past = hit.last_bits().max(candidate.last_bits()).checked_add(1)?;
        if past > pool.base.last_bits() {
            return None;
        }
        candidate = Prefix::containing(from_bits(past, v4), pool.size)?;
    }
}

/// No address of the pool is free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no available IPv{family} addresses on this network's address pools: {subnet}", family = if subnet.is_ipv4() { 4 } else { 6 })]
pub struct Exhausted {
    /// The subnet that is full.
    pub subnet: Prefix,
}

/// Why a wanted address can't be reserved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Somebody holds it, or it is the network's own or broadcast address.
    #[error("Address already in use")]
    InUse,
    /// It lies outside the subnet.
    #[error("Requested address is out of range")]
    OutOfRange,
}

/// The addresses of one subnet that are in use, and where the last one was handed out.
#[derive(Clone, Debug)]
pub struct Allocations {
    subnet: Prefix,
    range: Prefix,
    used: BTreeSet<u128>,
    last: Option<u128>,
}

impl Allocations {
    /// An empty pool over `subnet`; addresses that nobody asked for by name come from `range`,
    /// which is the whole subnet when absent (or when it does not lie in the subnet).
    ///
    /// The network address, and for IPv4 the broadcast address, are never handed out, unless the
    /// subnet has at most two addresses (RFC 3021).
    pub fn new(subnet: Prefix, range: Option<Prefix>) -> Self {
        let range = range.filter(|r| subnet.contains_prefix(r)).unwrap_or(subnet);
        let mut used = BTreeSet::new();
        if subnet.last_bits() - subnet.first_bits() > 1 {
            used.insert(subnet.first_bits());
            if subnet.is_ipv4() {
                used.insert(subnet.last_bits());
            }
        }
        Self { subnet, range, used, last: None }
    }

    /// The subnet this pool covers.
    pub fn subnet(&self) -> Prefix {
        self.subnet
    }

    /// Takes the first free address after the last one handed out, wrapping at the range's end.
    pub fn allocate(&mut self) -> Result<IpAddr, Exhausted> {
        let (low, high) = (self.range.first_bits(), self.range.last_bits());
        let start = match self.last {
            Some(last) if last >= low && last < high => last + 1,
            _ => low,
        };
        let found = self.first_free(start, high).or_else(|| {
            let before = start.checked_sub(1)?;
            self.first_free(low, before)
        });
        let bits = found.ok_or(Exhausted { subnet: self.subnet })?;
        self.used.insert(bits);
        self.last = Some(bits);
        Ok(from_bits(bits, self.subnet.is_ipv4()))
    }

    /// The lowest free address of the range, taken without moving the cursor: how a gateway that
    /// nobody named is chosen.
    pub fn allocate_first(&mut self) -> Result<IpAddr, Exhausted> {
        let found = self.first_free(self.range.first_bits(), self.range.last_bits());
        let bits = found.ok_or(Exhausted { subnet: self.subnet })?;
        self.used.insert(bits);
        Ok(from_bits(bits, self.subnet.is_ipv4()))
    }

    /// Takes exactly `address`.
    pub fn reserve(&mut self, address: IpAddr) -> Result<(), Taken> {
        if !self.subnet.contains(address) {
            return Err(Taken::OutOfRange);
        }
        if self.used.insert(to_bits(address)) { Ok(()) } else { Err(Taken::InUse) }
    }

    /// Moves the cursor behind `address`, so that what a record says was handed out last stays
    /// last after a restart.
    pub fn set_last(&mut self, address: IpAddr) {
        if self.range.contains(address) {
            self.last = Some(to_bits(address));
        }
    }

    /// Gives `address` back; one that was not taken, or is never handed out, changes nothing.
    pub fn release(&mut self, address: IpAddr) {
        if self.subnet.contains(address) {
            let fresh = Self::new(self.subnet, Some(self.range));
            let bits = to_bits(address);
            if !fresh.used.contains(&bits) {
                self.used.remove(&bits);
            }
        }
    }

    /// Whether `address` is taken or never handed out.
    pub fn is_used(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && self.used.contains(&to_bits(address))
    }

    // Walks the used addresses from `from` on until there is a gap: the cost is the length of the
    // run of used addresses, never the size of the pool.
    fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        let mut want = from;
        for &used in self.used.range(from..) {
            if used != want {
                break;
            }
            want = want.checked_add(1)?;
        }
        (want <= to).then_some(want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_pool_is_the_first_that_no_route_uses() {
        let pools = docker_pools();
        assert_eq!(choose(&pools, &[]).unwrap(), prefix("172.17.0.0/16"));
        let used = [prefix("172.17.0.0/16"), prefix("172.18.4.0/24"), prefix("10.0.0.0/8")];
        assert_eq!(choose(&pools, &used).unwrap(), prefix("172.19.0.0/16"));
        let used = [prefix("172.16.0.0/12"), prefix("192.168.0.0/19")];
        assert_eq!(choose(&pools, &used).unwrap(), prefix("192.168.32.0/20"));
        assert_eq!(choose(&pools, &[prefix("0.0.0.0/0")]), None);
    }

    #[test]
    fn a_freed_address_comes_back_last() {
        let mut pool = Allocations::new(prefix("10.0.0.0/29"), None);
        let first: Vec<_> = (0..3).map(|_| pool.allocate().unwrap().to_string()).collect();
        assert_eq!(first, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        pool.release("10.0.0.1".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "10.0.0.4");
        pool.allocate().unwrap();
        pool.allocate().unwrap();
        assert_eq!(pool.allocate().unwrap().to_string(), "10.0.0.1");
        let full = pool.allocate().unwrap_err();
        assert!(full.to_string().contains("10.0.0.0/29"));
    }

    #[test]
    fn a_range_bounds_what_is_handed_out_but_not_what_is_asked_for() {
        let mut pool = Allocations::new(prefix("10.1.2.0/24"), Some(prefix("10.1.2.128/25")));
        assert_eq!(pool.allocate().unwrap().to_string(), "10.1.2.128");
        pool.reserve("10.1.2.5".parse().unwrap()).unwrap();
        assert_eq!(pool.reserve("10.1.2.5".parse().unwrap()), Err(Taken::InUse));
        assert_eq!(pool.reserve("10.1.3.5".parse().unwrap()), Err(Taken::OutOfRange));
    }

    #[test]
    fn network_and_broadcast_stay_reserved_whatever_is_released() {
        let mut pool = Allocations::new(prefix("10.0.0.0/30"), None);
        pool.release("10.0.0.0".parse().unwrap());
        pool.release("10.0.0.3".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "10.0.0.1");
        assert_eq!(pool.allocate().unwrap().to_string(), "10.0.0.2");
        assert!(pool.allocate().is_err());
    }

    #[test]
    fn a_point_to_point_subnet_uses_both_addresses() {
        let mut pool = Allocations::new(prefix("10.0.0.0/31"), None);
        assert_eq!(pool.allocate().unwrap().to_string(), "10.0.0.0");
        assert_eq!(pool.allocate().unwrap().to_string(), "10.0.0.1");
    }

    #[test]
    fn the_whole_ipv6_space_does_not_overflow() {
        let mut pool = Allocations::new(prefix("::/0"), None);
        assert_eq!(pool.allocate().unwrap().to_string(), "::1");
        pool.set_last("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap());
        pool.reserve("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()).unwrap();
        assert_eq!(pool.allocate().unwrap().to_string(), "::2");
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(ops in proptest::collection::vec(0u8..40, 1..300)) {
            let subnet = prefix("192.168.7.0/27");
            let mut pool = Allocations::new(subnet, None);
            let mut held: Vec<IpAddr> = Vec::new();
            for op in ops {
                if op < 28 {
                    if let Ok(address) = pool.allocate() {
                        prop_assert!(subnet.contains(address));
                        prop_assert!(address != subnet.network() && address != subnet.last());
                        prop_assert!(!held.contains(&address));
                        held.push(address);
                    } else {
                        prop_assert_eq!(held.len(), 30);
                    }
                } else if !held.is_empty() {
                    let gone = held.remove(op as usize % held.len());
                    pool.release(gone);
                    prop_assert!(!pool.is_used(gone));
                }
            }
        }

        #[test]
        fn a_chosen_subnet_overlaps_nothing_and_exists_if_any_is_free(
            used in proptest::collection::vec((0u32..1u32 << 16, 16u8..=32), 0..20)
        ) {
            let used: Vec<Prefix> = used
                .into_iter()
                .map(|(bits, len)| {
                    let address = IpAddr::from((0x0a00_0000u32 | bits).to_be_bytes());
                    Prefix::containing(address, len).unwrap()
                })
                .collect();
            let base = PoolBase { base: prefix("10.0.0.0/16"), size: 20 };
            let brute = (0u32..16)
                .map(|n| Prefix::containing(IpAddr::from((0x0a00_0000 | (n << 12)).to_be_bytes()), 20).unwrap())
                .find(|p| !used.iter().any(|u| u.overlaps(p)));
            prop_assert_eq!(choose(&[base], &used), brute);
        }
    }
}
