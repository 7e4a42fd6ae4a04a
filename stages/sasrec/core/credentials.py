"""Finds credentials in the URLs of params.yaml, because the report, dvc.lock and messages show its values."""

import re
from urllib.parse import unquote

PASSWORD = re.compile(
    r"""://(?!arn:)              # the name of an S3 access point has colons
    [^/?\#@\[]*:                 # a user
    (?!\d*([/?\#]|$))            # not followed by a port
    [^@]*@                       # an AWS secret key may hold slashes""",
    re.VERBOSE,
)
USER = re.compile(r"\b(https?|ftp)://[^/?#@]+@", re.IGNORECASE)  # may be a token; elsewhere it is only a name
QUERY_NAME = re.compile(r"[?&;#]([^?&;#=/]+)=")
SECRET = (  # endings of the names of secret query parameters, in lower case and letters only: X-Amz-Signature, sig
    *("signature", "sig", "token", "secret", "credential", "credentials", "password", "passwd", "pwd"),
    *("key", "keyid", "accessid", "auth", "authorization", "jwt"),
)


def are_in(text: str) -> bool:
    """Return whether `text` is a URL that holds a password, a token or a signature."""
    url = unquote(text)
    names = [re.sub("[^a-z]", "", name.lower()) for name in QUERY_NAME.findall(url)]
    is_signed = "://" in url and any(name.endswith(SECRET) for name in names)
    return is_signed or bool(PASSWORD.search(url) or USER.search(url))
