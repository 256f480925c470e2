"""What browsers may do with our pages, and how long answers are right: the same from every server."""

from collections.abc import Mapping

# Of every answer. Nothing in our pages comes from elsewhere, and none of them holds a script or a style of its own.
SECURITY: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

# What has this name never changes; what comes with it has to be asked for again each time, and mostly is known.
UNCHANGING = "public, max-age=31536000, immutable"
CHANGING = "no-cache"
