//! Sizes and progress in docker's words: daemon and clients print them alike.

use crate::ProgressDetail;

/// A number with so many significant digits, as `%.4g` prints it.
fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let magnitude = number.abs().log10().floor() as i32;
    let scientific = format!("{number:.*e}", digits - 1);
    let exponent: i32 =
        scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(magnitude);
    if exponent < -4 || exponent >= digits as i32 {
        let (mantissa, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    let text = format!("{number:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn scaled(size: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut size = size;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A size in powers of 1000, four digits: `1.984MB`.
pub fn human_size(size: f64) -> String {
    scaled(size, 1000.0, 4, &DECIMAL)
}

/// A size in powers of 1000, three digits: `1.98MB`.
pub fn human_size_3(size: f64) -> String {
    scaled(size, 1000.0, 3, &DECIMAL)
}

/// A size in powers of 1024: `1.9MiB`.
pub fn bytes_size(size: f64) -> String {
    scaled(size, 1024.0, 4, &BINARY)
}

/// Columns of a terminal that nobody knows.
const COLUMNS: usize = 200;

/// `[===>   ]  1.2MB/3.4MB`, on a terminal so wide (0: unknown).
pub fn progress_bar(progress: &ProgressDetail, columns: usize) -> String {
    let columns = if columns == 0 { COLUMNS } else { columns };
    let (current, total) = (progress.current, progress.total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    if total <= 0 {
        return match progress.units.as_str() {
            "" => format!("{:>8}", human_size(current as f64)),
            units => format!("{current} {units}"),
        };
    }
    let half = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
    let bar = if columns > 110 {
        format!("[{}>{}] ", "=".repeat(half), " ".repeat(50 - half))
    } else {
        String::new()
    };
    let numbers = match progress.units.as_str() {
        _ if progress.hidecounts => String::new(),
        "" if current > total => format!("{:>8}", human_size(current as f64)),
        "" => format!("{:>8}/{}", human_size(current as f64), human_size(total as f64)),
        units if current > total => format!("{current} {units}"),
        units => format!("{current}/{total} {units}"),
    };
    bar + &numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_digits_that_docker_prints() {
        assert_eq!(human_size(1_984_230.0), "1.984MB");
        assert_eq!(human_size_3(1_984_230.0), "1.98MB");
        assert_eq!(human_size(0.0), "0B");
        assert_eq!(human_size(1000.0), "1kB");
        assert_eq!(bytes_size(67_108_864.0), "64MiB");
    }

    #[test]
    fn bars_are_drawn_as_docker_draws_them() {
        let of = |current, total| ProgressDetail { current, total, ..ProgressDetail::default() };
        let spaces = " ".repeat(45);
        assert_eq!(
            progress_bar(&of(34304, 300_000), 0),
            format!("[=====>{spaces}]   34.3kB/300kB")
        );
        let full = "=".repeat(50);
        assert_eq!(progress_bar(&of(307_200, 300_000), 0), format!("[{full}>]  307.2kB"));
        assert_eq!(progress_bar(&of(1, 2), 80), "      1B/2B");
        assert_eq!(progress_bar(&of(5, 0), 80), "      5B");
        assert_eq!(progress_bar(&of(0, 0), 80), "");
    }
}
