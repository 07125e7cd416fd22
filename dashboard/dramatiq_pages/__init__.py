"""dramatiq-dashboard at ``/dramatiq``, over the ledger.

The package's own application and templates, unpatched, on an interface of ours: it knows Redis only.  It answers
GET alone, sees no cookie, no header and no body, and what it says of cookies is dropped; its two forms are posted to
routes of ours, behind the console's login and permissions.

routes.py     what is served
pages.py      the package's application, with our interface, forms and links
interface.py  what it asks of a broker, answered from the ledger
templates/    what is added to its pages
"""

from dashboard.dramatiq_pages.routes import router

__all__ = ["router"]
