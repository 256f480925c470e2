"""HTTP headers for the site on any server: what browsers may do with our pages, and how long they keep them."""

from collections.abc import Mapping

# For every response. Pages load nothing from other hosts, and have no inline scripts or styles.
SECURITY: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

# Values of Cache-Control: for content that never changes, and for content that browsers must revalidate each time.
UNCHANGING = "public, max-age=31536000, immutable"
CHANGING = "no-cache"

# For models: pages of other sites may load them. Browsers send no tokens with such requests.
OPEN_TO_PAGES: Mapping[str, str] = {"access-control-allow-origin": "*"}
