//! One line of comma separated values, quoted as in CSV.

/// Splits a line into its fields.
pub fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted).ok_or_else(|| {
                let column = line.chars().count() + 1;
                format!("parse error on line 1, column {column}: extraneous or missing \" in quoted-field")
            })?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(at) = rest[..end].find('"') {
                let column = line.len() - rest.len() + at + 1;
                return Err(format!(
                    "parse error on line 1, column {column}: bare \" in non-quoted-field"
                ));
            }
            (rest[..end].to_owned(), &rest[end..])
        };
        found.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(found),
        }
    }
}

/// The field that starts after an opening quote, and what follows its closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if rest.is_empty() || rest.starts_with(',') => return Some((field, rest)),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quoted_fields_keep_their_commas() {
        assert_eq!(fields("a,\"b,c\",d").unwrap(), ["a", "b,c", "d"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert!(fields("a\"b").unwrap_err().contains("bare"));
    }
}
