//! This boot of the kernel.

use std::io;

/// An id that no other boot has (`/proc/sys/kernel/random/boot_id`, random(4)).
pub fn id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}
