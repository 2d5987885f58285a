"""The API server: typed objects, one client, what keeps up with a resource, and who leads.

    connect   one session with the cluster          auth       where the cluster is, and who we are
    client    requests and answers                  retry      which requests may be sent again
    objects   what is read, as structs              errors     everything that can go wrong
    reflector a local copy of a resource            elector    one leader among several controllers

Knows nothing of gangs, attempts or recovery. Third-party exceptions stop here: what leaves is in `errors`.
"""
