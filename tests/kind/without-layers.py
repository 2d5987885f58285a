#!/usr/bin/python3 -IS
"""without-layers.py FILE... <"docker save" >OCI-archive: leaves out the layers whose digest stands in every FILE.

Python and the dependencies are 99 % of an image and change rarely; "ctr images import" takes an archive without the
layers that its store has already, which makes the difference between 4 and 20 seconds for five nodes.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

OCI = "application/vnd.oci.image."


class Archive:
    """An OCI archive, written as a stream."""

    def __init__(self, tar):
        self.tar = tar
        self.written = set()

    def file(self, name, data):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, io.BytesIO(data))

    def blob(self, media_type, data, leave_out=frozenset(), **more):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if digest not in self.written and digest not in leave_out:
            self.written.add(digest)
            self.file("blobs/" + digest.replace(":", "/"), data)
        return {"mediaType": OCI + media_type, "digest": digest, "size": len(data), **more}


def saved_files(stream):
    """Everything in the output of docker save; a layer that images share may be there as a link."""
    files, links = {}, {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isfile():
                files[member.name] = tar.extractfile(member).read()
            elif member.islnk():
                links[member.name] = member.linkname
            elif member.issym():
                links[member.name] = str((Path("/") / member.name).parent.joinpath(member.linkname).resolve())[1:]
    return files | {name: files[target] for name, target in links.items()}


def layer_type(data):
    return "layer.v1.tar+gzip" if data.startswith(b"\x1f\x8b") else "layer.v1.tar"


def main():
    present = set.intersection(*(set(Path(path).read_text().split()) for path in sys.argv[1:]))
    files = saved_files(sys.stdin.buffer)
    manifests = []
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        archive = Archive(tar)
        for image in json.loads(files["manifest.json"]):
            layers = [files[name] for name in image["Layers"]]
            manifest = {
                "schemaVersion": 2,
                "mediaType": OCI + "manifest.v1+json",
                "config": archive.blob("config.v1+json", files[image["Config"]]),
                "layers": [archive.blob(layer_type(layer), layer, leave_out=present) for layer in layers],
            }
            for tag in image["RepoTags"]:
                name = {"io.containerd.image.name": f"docker.io/library/{tag}"}
                manifests.append(archive.blob("manifest.v1+json", json.dumps(manifest).encode(), annotations=name))
        archive.file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        archive.file("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())


main()
