//! The files of a log, oldest first, read line by line; finding the last lines from
//! the end; going on with the next file when the one being read was rotated away.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Options;
use super::line::{Shown, show};

/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;
/// More rotated files than anybody keeps.
const MOST: u32 = 1000;

/// Reads a log.
pub(super) struct Reader {
    path: PathBuf,
    options: Options,
    current: Option<File>,
    /// Rotated files that are still to be read, the next one last.
    queue: Vec<File>,
    /// Bytes of a line whose end was not read yet.
    partial: Vec<u8>,
    over: bool,
}

/// The path of a rotated file; 0 is the one that grows.
fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Reader {
    /// Opens the log at `path`; it may not exist yet.
    pub(super) fn open(path: &Path, options: &Options) -> io::Result<Self> {
        let mut files = Vec::new();
        for number in 0..MOST {
            match open(&rotated(path, number))? {
                Some(file) => files.push(file),
                None if number == 0 => {}
                None => break,
            }
        }
        // Newest first until here; the queue is popped from its end.
        if let Some(count) = options.tail {
            let keep = seek_to_last(&mut files, count)?;
            files.truncate(keep);
        }
        let current = files.pop();
        Ok(Self {
            path: path.to_owned(),
            options: options.clone(),
            current,
            queue: files,
            partial: Vec::new(),
            over: false,
        })
    }

    /// Whether a line later than wanted was seen.
    pub(super) fn is_past_until(&self) -> bool {
        self.over
    }

    /// Reads on and appends what is shown; false when there is nothing more for now.
    pub(super) fn next_chunk(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        if self.over {
            return Ok(false);
        }
        if self.current.is_none() {
            self.current = open(&self.path)?;
        }
        let Some(file) = &mut self.current else { return Ok(false) };
        let mut buffer = vec![0; CHUNK];
        let n = file.read(&mut buffer)?;
        if n > 0 {
            self.take(&buffer[..n], out);
            return Ok(true);
        }
        self.advance(out)
    }

    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            let shown = if self.partial.is_empty() {
                show(line, &self.options, out)
            } else {
                self.partial.extend_from_slice(line);
                let whole = std::mem::take(&mut self.partial);
                show(&whole, &self.options, out)
            };
            if shown == Shown::TooLate {
                self.over = true;
                return;
            }
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
    }

    /// At the end of a file: the next one in the queue, or the one that follows it after a
    /// rotation; false when this one is the newest.
    fn advance(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(next) = self.queue.pop() {
            self.current = Some(next);
            return Ok(true);
        }
        let Some(file) = &mut self.current else { return Ok(false) };
        let inode = |f: &File| f.metadata().map(|m| (m.dev(), m.ino()));
        let own = inode(file)?;
        let mut newer: Option<File> = None;
        for number in 0..MOST {
            let Some(found) = open(&rotated(&self.path, number))? else {
                if number == 0 {
                    continue;
                }
                // Rotated beyond what is kept: the oldest that is left follows.
                break;
            };
            if inode(&found)? == own {
                break;
            }
            newer = Some(found);
        }
        let Some(newer) = newer else { return Ok(false) };
        // What was appended between the last read and the rotation comes first.
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        self.current = Some(newer);
        self.take(&rest, out);
        Ok(true)
    }
}

/// Positions the files (newest first) so that the last `count` lines are read; gives how
/// many of them are needed.
fn seek_to_last(files: &mut [File], count: usize) -> io::Result<usize> {
    if count == 0 {
        for file in files.iter_mut() {
            file.seek(SeekFrom::End(0))?;
        }
        return Ok(files.len().min(1));
    }
    let mut left = count;
    for (at, file) in files.iter_mut().enumerate() {
        match last_lines(file, left)? {
            (offset, found) if found >= left => {
                file.seek(SeekFrom::Start(offset))?;
                return Ok(at + 1);
            }
            (_, found) => {
                left -= found;
                file.seek(SeekFrom::Start(0))?;
            }
        }
    }
    Ok(files.len())
}

/// Where the last `count` lines begin, and how many there are at most.
fn last_lines(file: &mut File, count: usize) -> io::Result<(u64, usize)> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut position = end;
    let mut found = 0;
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let size = position.min(CHUNK as u64) as usize;
        position -= size as u64;
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut buffer[..size])?;
        for at in (0..size).rev() {
            let offset = position + at as u64;
            // The newline that ends the last line begins none.
            if buffer[at] == b'\n' && offset + 1 != end {
                found += 1;
                if found == count {
                    return Ok((offset + 1, count));
                }
            }
        }
    }
    Ok((0, found + usize::from(end > 0)))
}

#[cfg(test)]
mod tests;
