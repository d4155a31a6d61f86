//! Images: names that point at a target descriptor.

mod service;

use containerd_api::services::images::v1::{ImageCreate, ImageDelete, ImageUpdate};
use metastore::{Batch, Table};
use oci::Descriptor;
use serde::{Deserialize, Serialize};

pub use service::Service;

use crate::context::name_of;
use crate::labels::{self, Labels};
use crate::{Context, Error, State};

pub(crate) const IMAGES: Table = Table::new("images");

/// An image's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// What the name points at: a manifest or an index.
    pub target: Descriptor,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Nanoseconds since the epoch.
    #[serde(default)]
    pub created: i64,
    /// Nanoseconds since the epoch.
    #[serde(default)]
    pub updated: i64,
    /// Fields of newer versions, kept.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Image {
    /// An image that points at `target`.
    pub fn new(target: Descriptor) -> Self {
        Self {
            target,
            labels: Labels::new(),
            created: 0,
            updated: 0,
            other: serde_json::Map::new(),
        }
    }
}

impl State {
    /// The image `name`.
    pub fn image(&self, context: &Context, name: &str) -> Result<Image, Error> {
        let found = self.store.get_json(IMAGES, &context.key(name))?;
        found.ok_or_else(|| Error::NotFound(format!("image {name:?}")))
    }

    /// All images of the namespace, sorted by name.
    pub fn images(&self, context: &Context) -> Result<Vec<(String, Image)>, Error> {
        let rows = self.store.scan_json(IMAGES, &context.prefix())?.into_iter();
        Ok(rows.map(|(key, image)| (name_of(&key), image)).collect())
    }

    /// Makes an image; returns once it, and all content recorded before, is power-safe.
    pub fn create_image(
        &self,
        context: &Context,
        name: &str,
        mut image: Image,
    ) -> Result<Image, Error> {
        if name.is_empty() {
            return Err(Error::InvalidArgument("image name must not be empty".into()));
        }
        let now = labels::now();
        (image.created, image.updated) = (now, now);
        let position = {
            let _writing = self.write();
            if self.store.get(IMAGES, &context.key(name))?.is_some() {
                return Err(Error::AlreadyExists(format!("image {name:?}")));
            }
            let batch = self.with_namespace(context, Batch::default())?;
            let batch = self.with_lease(context, batch, "images", name)?;
            self.store.append(batch.put_json(IMAGES, context.key(name), &image)?)?
        };
        self.store.wait_durable(position)?;
        let labels = image.labels.clone().into_iter().collect();
        let event = ImageCreate { name: name.into(), labels };
        self.events.publish(&context.namespace, "/images/create", &event);
        Ok(image)
    }

    /// Changes an image: its target and labels when `paths` is empty, else what they name.
    pub fn update_image(
        &self,
        context: &Context,
        name: &str,
        wanted: &Image,
        paths: &[String],
    ) -> Result<Image, Error> {
        if name.is_empty() {
            return Err(Error::InvalidArgument("image name is required for update".into()));
        }
        let (image, position) = {
            let _writing = self.write();
            let mut image = self.image(context, name)?;
            if paths.is_empty() {
                image.labels.clone_from(&wanted.labels);
                image.target.clone_from(&wanted.target);
            }
            for path in paths {
                apply(name, &mut image, wanted, path)?;
            }
            image.updated = labels::now();
            let batch = Batch::default().put_json(IMAGES, context.key(name), &image)?;
            let batch = self.with_lease(context, batch, "images", name)?;
            let position = self.store.append(batch)?;
            (image, position)
        };
        self.store.wait_durable(position)?;
        let labels = image.labels.clone().into_iter().collect();
        let event = ImageUpdate { name: name.into(), labels };
        self.events.publish(&context.namespace, "/images/update", &event);
        self.gc.trigger();
        Ok(image)
    }

    /// Points `name` at an image's target, whether or not the name exists.
    pub fn put_image(&self, context: &Context, name: &str, image: Image) -> Result<Image, Error> {
        match self.create_image(context, name, image.clone()) {
            Err(Error::AlreadyExists(_)) => self.update_image(context, name, &image, &[]),
            other => other,
        }
    }

    /// Removes a name; with `target` only if it still points there.
    pub fn delete_image(
        &self,
        context: &Context,
        name: &str,
        target: Option<&Descriptor>,
    ) -> Result<(), Error> {
        let position = {
            let _writing = self.write();
            let image = self.image(context, name)?;
            if target.is_some_and(|target| target.digest != image.target.digest) {
                return Err(Error::NotFound(format!("image {name:?} has a different target")));
            }
            let batch = Batch::default().delete(IMAGES, context.key(name));
            self.store.append(self.without_lease(context, batch, "images", name))?
        };
        self.store.wait_durable(position)?;
        let event = ImageDelete { name: name.into() };
        self.events.publish(&context.namespace, "/images/delete", &event);
        self.gc.trigger();
        Ok(())
    }
}

fn apply(name: &str, image: &mut Image, wanted: &Image, path: &str) -> Result<(), Error> {
    if labels::apply(&mut image.labels, &wanted.labels, path) {
        return Ok(());
    }
    match path {
        "target" => image.target.clone_from(&wanted.target),
        "annotations" => image.target.annotations.clone_from(&wanted.target.annotations),
        _ => match path.strip_prefix("annotations.") {
            Some(key) => {
                let value = wanted.target.annotations.get(key).cloned().unwrap_or_default();
                image.target.annotations.insert(key.into(), value);
            }
            None => {
                return Err(Error::InvalidArgument(format!(
                    "cannot update {path:?} field on image {name:?}"
                )));
            }
        },
    }
    Ok(())
}
