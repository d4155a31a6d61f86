//! `image ls --tree`: images with their platforms below them, as wide as the terminal lets them be.

use engine_api::{ImageManifest, ImageSummary, OciPlatform};

use super::units::{human_size_3, short_id};
use crate::terminal::raw;

/// Columns between two columns.
const SPACING: usize = 3;
/// The narrowest column of names that is worth a further column beside it.
const LEAST_NAME: usize = 12;
/// The narrowest terminal that is drawn for, and the one that is assumed where there is none.
const WIDTHS: (usize, usize) = (20, 80);

const BOLD: &str = "\x1b[39m\x1b[1m";
const NAME: &str = "\x1b[34m\x1b[1m";
const NORMAL: &str = "\x1b[39m";
const FAINT: &str = "\x1b[39m\x1b[2m";
const CHIP: &str = "\x1b[38;5;0m\x1b[48;5;14m";

/// A column beside the names.
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
}

const COLUMNS: [Column; 4] = [
    Column { title: "ID", width: 12, right: false },
    Column { title: "DISK USAGE", width: 10, right: true },
    Column { title: "CONTENT SIZE", width: 12, right: true },
    Column { title: "EXTRA", width: 5, right: false },
];

/// What stands beside a name.
struct Details {
    id: String,
    disk: i64,
    content: i64,
    used: bool,
}

struct Child {
    platform: String,
    is_here: bool,
    details: Details,
}

struct Image {
    names: Vec<String>,
    details: Details,
    children: Vec<Child>,
}

/// The images as text. Those without a tag are shown only when `all` are wanted.
pub(crate) fn draw(images: &[ImageSummary], all: bool) -> String {
    let mut images: Vec<&ImageSummary> = images.iter().collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let tagged = |image: &&&ImageSummary| all || image.repo_tags.iter().flatten().next().is_some();
    let images: Vec<Image> = images.iter().filter(tagged).map(|image| read(image)).collect();
    let terminal = raw::stdout_is_terminal();
    let width = match usize::from(raw::size().1) {
        0 => WIDTHS.1,
        width => width.max(WIDTHS.0),
    };
    Drawing::new(&images, terminal, width).all(&images)
}

fn read(image: &ImageSummary) -> Image {
    let children: Vec<Child> = image.manifests.iter().flatten().filter_map(child).collect();
    Image {
        names: image.repo_tags.iter().flatten().cloned().collect(),
        details: Details {
            id: image.id.clone(),
            disk: image.size,
            content: children.iter().map(|child| child.details.content).sum(),
            used: image.containers > 0 || children.iter().any(|child| child.details.used),
        },
        children,
    }
}

fn child(manifest: &ImageManifest) -> Option<Child> {
    let data = manifest.image_data.as_ref().filter(|_| manifest.kind == "image")?;
    Some(Child {
        platform: platform(&data.platform),
        is_here: manifest.available,
        details: Details {
            id: manifest.id.clone(),
            disk: manifest.size.total,
            content: manifest.size.content,
            used: data.containers.as_ref().is_some_and(|list| !list.is_empty()),
        },
    })
}

fn platform(platform: &OciPlatform) -> String {
    if platform.os.is_empty() {
        return "unknown".into();
    }
    let parts = [&platform.os, &platform.architecture, &platform.variant];
    let parts: Vec<&str> =
        parts.into_iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
    parts.join("/")
}

/// How it is drawn: for what, and which columns there is room for.
struct Drawing {
    terminal: bool,
    width: usize,
    name: usize,
    columns: &'static [Column],
}

impl Drawing {
    fn new(images: &[Image], terminal: bool, width: usize) -> Self {
        let mut name = width;
        let mut count = 0;
        for column in &COLUMNS {
            let taken = column.width + SPACING;
            if name < LEAST_NAME + taken {
                break;
            }
            name -= taken;
            count += 1;
        }
        let names = images.iter().flat_map(|image| image.names.iter().map(String::len));
        // Counted in bytes, as the stock client does, so that columns stand in the same places.
        let children = images.iter().flat_map(|image| &image.children);
        let children = children.map(|child| "└─ ".len() + child.platform.len());
        let widest = names.chain(children).chain(["IMAGE".len()]).max().unwrap_or(0);
        Self { terminal, width, name: name.min(widest), columns: &COLUMNS[..count] }
    }

    fn all(&self, images: &[Image]) -> String {
        let mut out = self.heading();
        for image in images {
            self.names(&mut out, &image.names);
            self.details(&mut out, &image.details, NORMAL);
            for (at, child) in image.children.iter().enumerate() {
                let branch = if at + 1 == image.children.len() { "└─ " } else { "├─ " };
                let color = if child.is_here { NORMAL } else { FAINT };
                let text = format!("{branch}{}", child.platform);
                out.push_str(&self.cell(&text, self.name, false, color, self.name));
                self.details(&mut out, &child.details, color);
            }
            if !image.children.is_empty() {
                out.push('\n');
            }
        }
        out
    }

    fn names(&self, out: &mut String, names: &[String]) {
        let Some((last, others)) = names.split_last() else {
            out.push_str(&self.cell("<untagged>", self.name, false, FAINT, self.name));
            return;
        };
        for name in others {
            out.push_str(&self.cell(name, 0, false, NAME, self.name));
            out.push('\n');
        }
        out.push_str(&self.cell(last, self.name, false, NAME, self.name));
    }

    /// The warning, what the marks mean, and the columns' names.
    fn heading(&self) -> String {
        let warning = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
        let (warning, info, chip) = if self.terminal {
            let info = "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m";
            (format!("\x1b[93m{warning}\x1b[0m"), info, format!("{CHIP} U \x1b[0m"))
        } else {
            (warning.to_owned(), "Info -> ", "U".to_owned())
        };
        let shown = if self.terminal {
            "i Info →   U  In Use ".chars().count()
        } else {
            "Info ->  U In Use ".len()
        };
        let indent = " ".repeat(self.width.saturating_sub(shown));
        let mut out = format!("{warning}\n{indent}{info} {chip} In Use \n\n");
        // Headings are bright also where nothing else is: the stock client's are.
        out.push_str(&pad(BOLD, "IMAGE", self.name, false, self.name));
        for column in self.columns {
            out.push_str(&" ".repeat(SPACING));
            out.push_str(&pad(BOLD, column.title, column.width, column.right, column.width));
        }
        out + "\n"
    }

    fn details(&self, out: &mut String, details: &Details, color: &str) {
        let texts = [
            short_id(&details.id),
            human_size_3(details.disk as f64),
            human_size_3(details.content as f64),
        ];
        for (at, column) in self.columns.iter().enumerate() {
            out.push_str(&" ".repeat(SPACING));
            match texts.get(at) {
                Some(text) => {
                    out.push_str(&self.cell(text, column.width, column.right, color, column.width));
                }
                None => out.push_str(&self.marks(details, column.width)),
            }
        }
        out.push('\n');
    }

    fn marks(&self, details: &Details, width: usize) -> String {
        let (mark, shown) = match (details.used, self.terminal) {
            (false, _) => (String::new(), 0),
            (true, false) => ("U".to_owned(), 1),
            (true, true) => (format!("{CHIP} U \x1b[0m"), 3),
        };
        format!("{mark}{}", " ".repeat(width.saturating_sub(shown)))
    }

    fn cell(&self, text: &str, width: usize, right: bool, color: &str, most: usize) -> String {
        pad(if self.terminal { color } else { "" }, text, width, right, most)
    }
}

/// A text in color, filled up to `width` and cut to `most` columns.
fn pad(color: &str, text: &str, width: usize, right: bool, most: usize) -> String {
    let mut text = text.to_owned();
    if text.chars().count() > most {
        text = text.chars().take(most.saturating_sub(1)).chain(['…']).collect();
    }
    let fill = " ".repeat(width.saturating_sub(text.chars().count()));
    let text = if color.is_empty() { text } else { format!("{color}{text}\x1b[0m") };
    if right { fill + &text } else { text + &fill }
}
