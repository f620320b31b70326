//! Where a backing store is. Pure.

use std::path::PathBuf;

/// A place for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder on this machine, or mounted here.
    Folder(PathBuf),
    /// A bucket of S3 or a compatible server, and what names begin with there.
    Bucket {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl std::str::FromStr for Location {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "must be file:///FOLDER or s3://BUCKET/PREFIX";
        if let Some(path) = text.strip_prefix("file://") {
            let path = PathBuf::from(path);
            let is_whole = path.is_absolute() && path.parent().is_some();
            return is_whole.then_some(Self::Folder(path)).ok_or(FORMS);
        }
        let rest = text.strip_prefix("s3://").ok_or(FORMS)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'?');
        if bucket.is_empty() || !is_plain(rest) || prefix.contains("//") {
            return Err(FORMS);
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood_and_written_alike() {
        for text in ["file:///var/cold", "s3://bucket", "s3://bucket/a/b"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        let with_slash: Location = "s3://bucket/a/".parse().unwrap();
        assert_eq!(with_slash.to_string(), "s3://bucket/a");
        for text in [
            "",
            "/var/cold",
            "file://var",
            "file:///",
            "s3://",
            "s3:///a",
            "s3://b/a//c",
            "gs://b",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
