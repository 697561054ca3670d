"""Build the networks now and print where they lie, so that the first instances find them: python examples/vision/prepare.py"""

from networks.store import NAMES, network_file

if __name__ == "__main__":
    for name in NAMES:
        print(network_file(name))
