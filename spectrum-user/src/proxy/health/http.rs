//! As much of HTTP/1.1 (RFC 9112) as a health check needs.

/// The first line of an answer has to end within these bytes.
const LONGEST_LINE: usize = 1024;

pub(super) fn request(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\n\
         Host: {host}\r\n\
         User-Agent: spectrum\r\n\
         Accept: */*\r\n\
         Connection: close\r\n\r\n"
    )
}

/// The status of an answer, as far as it has come: `None` while more is needed, `Some(None)` if it
/// is no HTTP.
pub(super) fn status(answer: &[u8]) -> Option<Option<u16>> {
    match answer.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(answer.get(..end).and_then(status_of_line)),
        None if answer.len() > LONGEST_LINE => Some(None),
        None => None,
    }
}

fn status_of_line(line: &[u8]) -> Option<u16> {
    let line = str::from_utf8(line).ok()?;
    let after = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let code = after.get(..3)?;
    let is_whole = after.get(3..).is_some_and(|rest| {
        let rest = rest.trim_end_matches('\r');
        rest.is_empty() || rest.starts_with(' ')
    });
    let is_number = code.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && is_number).then(|| code.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_soon_as_its_line_is_there() {
        let cases: [(&str, Option<Option<u16>>); 9] = [
            ("", None),
            ("HTTP/1.1 200 O", None),
            ("HTTP/1.1 200 OK\r\n", Some(Some(200))),
            ("HTTP/1.0 503\r\nRetry-After: 1\r\n", Some(Some(503))),
            ("HTTP/1.1 204 \n", Some(Some(204))),
            ("HTTP/1.1 2000 OK\r\n", Some(None)),
            ("HTTP/1.1 +20 OK\r\n", Some(None)),
            ("SSH-2.0-OpenSSH\r\n", Some(None)),
            ("HTTP/1.1 20é\r\n", Some(None)),
        ];
        for (answer, expected) in cases {
            assert_eq!(status(answer.as_bytes()), expected, "{answer:?}");
        }
        assert_eq!(status(&[b'x'; 2000]), Some(None), "a line without an end");
    }
}
