"""The chain of hashes from data to report: products that say what they were made from, guards, verification, archive."""
