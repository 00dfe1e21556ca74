"""auth_token in front of an application that says that all is well, for uWSGI.

AUTH_TOKEN_OPTIONS holds the options of the filter as a JSON object.
"""

import json
import os
import warnings

try:
    import compat  # 4.9.1 needs it, and it is in the path for that release only
except ImportError:
    warnings.simplefilter('ignore')
else:
    compat.restore_openssl_words()

from keystonemiddleware import auth_token


def all_is_well(environ, start_response):
    start_response('204 No Content', [('X-User-Id', environ['HTTP_X_USER_ID'])])
    return [b'']


application = auth_token.filter_factory({}, **json.loads(os.environ['AUTH_TOKEN_OPTIONS']))(all_is_well)
