//! A container in one line, as the list shows it.

use std::collections::BTreeMap;

use super::{EndpointSettings, OciDescriptor, StringMap};

api! {
    /// An item of `GET /containers/json`.
    ContainerSummary = "container.Summary" {
        id: String = "Id".go("ID");
        names: Vec<String> = "Names";
        image: String = "Image";
        image_id: String = "ImageID";
        image_manifest_descriptor: Option<OciDescriptor> =
            "ImageManifestDescriptor".omitempty().since(48);
        command: String = "Command";
        created: i64 = "Created";
        ports: Vec<Port> = "Ports";
        size_rw: i64 = "SizeRw".omitempty();
        size_root_fs: i64 = "SizeRootFs".omitempty();
        labels: StringMap = "Labels";
        state: String = "State";
        status: String = "Status";
        host_config: SummaryHostConfig = "HostConfig";
        network_settings: SummaryNetworkSettings = "NetworkSettings";
        mounts: Vec<MountPoint> = "Mounts";
    }

    /// The part of the host configuration that a list shows.
    SummaryHostConfig = "struct" {
        network_mode: String = "NetworkMode".omitempty();
        annotations: Option<StringMap> = "Annotations".omitempty().since(46);
    }

    /// The networks that a list shows.
    SummaryNetworkSettings = "container.NetworkSettingsSummary" {
        networks: BTreeMap<String, EndpointSettings> = "Networks";
    }

    /// A port, published or only exposed.
    Port = "container.Port" {
        ip: String = "IP".omitempty();
        private_port: u16 = "PrivatePort";
        public_port: u16 = "PublicPort".omitempty();
        kind: String = "Type";
    }

    /// A mount as it stands.
    MountPoint = "container.MountPoint" {
        kind: String = "Type".omitempty();
        name: String = "Name".omitempty();
        source: String = "Source";
        destination: String = "Destination";
        driver: String = "Driver".omitempty();
        mode: String = "Mode";
        rw: bool = "RW";
        propagation: String = "Propagation";
    }
}
