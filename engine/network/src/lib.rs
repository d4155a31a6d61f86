//! Sandboxes, endpoints, networks: links, addresses and firewall through netlink.
