//! TLS to mail servers and webhooks: the certificates that are trusted, and what is wrong with a connection.

use std::{error::Error as StdError, io};

use rustls::{CertificateError, Error as TlsError};
use virtuozo_model::NoticeSettings;

use crate::error::SendError;

pub(crate) fn bad_ca(how: &NoticeSettings) -> SendError {
    SendError::transient(format!(
        "the file {} (ca_file) holds no certificate in PEM form",
        how.ca_file.as_deref().unwrap_or_default()
    ))
}

/// What is wrong with a TLS connection, and what to do.
pub(crate) fn explain_tls(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate comes from an issuer that this machine does not know: name the issuer's certificate with ca_file".to_owned()
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name: use the name that stands in it".to_owned(),
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        TlsError::InvalidMessage(_) => {
            "it does not speak TLS there: check the port and mail_security".to_owned()
        }
        other => format!("no TLS connection: {other}"),
    }
}

/// The first error of a type among the causes of another, also inside of I/O errors.
pub(crate) fn cause<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(one) = next {
        if let Some(found) = one.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = one
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static));
        next = inner.or_else(|| one.source());
    }
    None
}
