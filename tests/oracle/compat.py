"""Makes keystonemiddleware 4.9.1 feel at home on today's Python and OpenSSL 3.

Import this before anything of OpenStack. What it changes restores the
surroundings of 2016; nothing here touches what the middleware decides.
"""

import subprocess
import sys
import types
import warnings


def restore_openssl_words():
    """Let keystoneclient hear the words that it listens for.

    It runs `openssl cms -verify` and tells a token that is no CMS from a
    certificate that cannot be read by the first words on stderr. OpenSSL 1.0
    said "Error reading S/MIME message"; OpenSSL 3 says something else, after a
    warning. Without this a garbage token makes the middleware fetch both
    certificates again and then ask Keystone, where it used to refuse.
    """
    from keystoneclient.common import cms

    class Popen(subprocess.Popen):
        def communicate(self, *args, **kwargs):
            output, errors = super().communicate(*args, **kwargs)
            if errors and b'Error reading SMIME Content Info' in errors:
                errors = b'Error reading S/MIME message\n' + errors
            return output, errors

    words = types.ModuleType('subprocess')
    words.__dict__.update(subprocess.__dict__)
    words.Popen = Popen
    cms.set_subprocess(words)


# oslo.utils imports netifaces for get_my_ipv4(), which is not called here. The
# package is a C extension without a wheel: it would need a compiler.
sys.modules.setdefault('netifaces', types.ModuleType('netifaces'))

# Deprecations of pkg_resources, cgi and utcnow() are no news for this release.
warnings.simplefilter('ignore')
