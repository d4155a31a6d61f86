//! `linux.netDevices`: network devices of the host moved into a container, with their addresses.
//! Making devices, routes or names is the business of whoever called us.

use crate::error::{At, Error, Result};
use crate::launch::Launch;
use rustix::fs::{Mode, OFlags};
use std::net::IpAddr;
use std::os::fd::AsFd;
use sys::netlink::Batch;
use sys::netlink::route::{self, LinkChange, LinkRef};
use sys::netlink::{Protocol, Socket};
use sys::netns::{self, Excursion};

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local(),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local(),
    }
}

/// Moves the devices into the network namespace of a process, under their new names, and sets them
/// up there with the global addresses that they had (the kernel drops them on the way).
///
/// # Errors
/// When a device is missing or the kernel refuses.
pub(crate) fn move_in(launch: &Launch, pid: i32) -> Result<()> {
    let devices = &launch.linux.net_devices;
    if devices.is_empty() {
        return Ok(());
    }
    let failed = |name: &str, why: &dyn std::fmt::Display| {
        Error::Start(format!("error moving network device {name:?} into the container: {why}"))
    };
    let path = format!("/proc/{pid}/ns/net");
    let there = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(|| format!("open {path}"))?;
    let mut socket = Socket::open(Protocol::Route).at(|| "open netlink socket".into())?;
    let addresses = route::addresses(&mut socket).map_err(|e| failed("all", &e))?;
    let mut moved = Vec::with_capacity(devices.len());
    for (name, device) in devices {
        let link = route::link_by_name(&mut socket, name)
            .map_err(|e| failed(name, &e))?
            .ok_or_else(|| failed(name, &"no such device"))?;
        let inside = if device.name.is_empty() { name } else { &device.name };
        let mut batch = Batch::default();
        let change = LinkChange {
            netns: Some(there.as_fd()),
            rename: Some(inside),
            ..LinkChange::default()
        };
        route::set_link(&mut batch, LinkRef::Index(link.index), &change);
        socket.request(batch).map_err(|e| failed(name, &e))?;
        let own: Vec<(IpAddr, u8)> = addresses
            .iter()
            .filter(|a| a.link == link.index && is_global(a.address))
            .map(|a| (a.address, a.len))
            .collect();
        moved.push((inside.as_str(), own));
    }
    let home = netns::current().at(|| "open own network namespace".into())?;
    let _away =
        Excursion::begin(home.as_fd(), there.as_fd()).at(|| "enter network namespace".into())?;
    let mut socket = Socket::open(Protocol::Route).at(|| "open netlink socket".into())?;
    for (name, own) in moved {
        let link = route::link_by_name(&mut socket, name)
            .map_err(|e| failed(name, &e))?
            .ok_or_else(|| failed(name, &"it did not arrive"))?;
        let mut batch = Batch::default();
        for (address, len) in own {
            route::add_address(&mut batch, link.index, address, len);
        }
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Index(link.index), &up);
        socket.request(batch).map_err(|e| failed(name, &e))?;
    }
    Ok(())
}
