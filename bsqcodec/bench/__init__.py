"""The benchmark: rate-distortion curves of bsqcodec and of x264, x265 and SVT-AV1, by one set of rules.

Uses the public API, `bsqcodec.video` and `bsqcodec.metrics`; the codec knows nothing of it.
"""
