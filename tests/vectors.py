"""Forty well-known ways to get a script into a page, as the text of a message: each would set `window.hit`.

After the OWASP cheat sheet on filter evasion (https://cheatsheetseries.owasp.org/cheatsheets/XSS_Filter_Evasion_Cheat_Sheet.html) and PortSwigger's
list by events (https://portswigger.net/web-security/cross-site-scripting/cheat-sheet).
"""

from __future__ import annotations

VECTORS = (
    "<script>window.hit=1</script>",
    "<SCRIPT>window.hit=1</SCRIPT>",
    "<script src=data:text/javascript,window.hit=1></script>",
    "<scr<script>ipt>window.hit=1</scr</script>ipt>",
    "<script/x>window.hit=1</script >",
    "</title><script>window.hit=1</script>",
    "</textarea><script>window.hit=1</script>",
    "</style><script>window.hit=1</script>",
    "--><script>window.hit=1</script>",
    "]]><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<img src=x onerror='window.hit=1'//",
    "<img/src/onerror=window.hit=1>",
    "<IMG SRC=javascript:window.hit=1>",
    '<img src=1 href=1 onerror="javascript:window.hit=1"></img>',
    "<svg onload=window.hit=1>",
    "<svg/onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "<svg><animate onbegin=window.hit=1 attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:window.hit=1><text y=20>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hit=1>",
    "<body onload=window.hit=1>",
    "<body onpageshow=window.hit=1>",
    "<iframe src=javascript:window.hit=1></iframe>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<object data=javascript:window.hit=1></object>",
    "<embed src=javascript:window.hit=1>",
    "<details open ontoggle=window.hit=1>x</details>",
    "<video><source onerror=window.hit=1></video>",
    "<audio src=x onerror=window.hit=1>",
    "<marquee onstart=window.hit=1>x</marquee>",
    "<input autofocus onfocus=window.hit=1>",
    "<select autofocus onfocus=window.hit=1>",
    "<style>@keyframes x{}</style><b style='animation-name:x' onanimationstart=window.hit=1>x</b>",
    "<link rel=stylesheet href=javascript:window.hit=1>",
    "<meta http-equiv=refresh content='0;url=javascript:window.hit=1'>",
    "<base href=javascript:window.hit=1//>",
    "<a href=javascript:window.hit=1 id=x tabindex=1 onfocus=window.hit=1 autofocus>x</a>",
    "{{constructor.constructor('window.hit=1')()}}${window.hit=1}<%=window.hit=1%>",
    "\"'`><img src=x onerror=window.hit=1>&lt;script&gt;window.hit=1&lt;/script&gt;",
)

#: What would run where it is followed as a link; none of it is a web address, and no API takes it as `url`.
LINKS = (
    "javascript:window.hit=1",
    "JaVaScRiPt:window.hit=1",
    " javascript:window.hit=1",
    "java\tscript:window.hit=1",
    "\x01javascript:window.hit=1",
    "javascript://example.com/%0Awindow.hit=1",
    "data:text/html,<script>opener.hit=1</script>",
    "vbscript:window.hit=1",
    "https:javascript:window.hit=1",
    "//example.com/x",
)
