"""The stages by name, in the order of their inputs; each is a module of `pipelines`."""

from __future__ import annotations

STAGES = {
    "ingest": "Read the source files (the data set's, or tables) into Parquet, rejects listed.",
    "split": "Split the songs into train, validation and test, by song, artist, album or time.",
    "label": "Embed the tag lists and cluster them into k classes (K-Means).",
    "pretrain": "Pre-train a small RoBERTa on the corpus's own lyrics (masked-word modelling).",
    "embed": "Turn metadata, lyrics and audio into one vector each per song.",
    "fuse": "Scale and concatenate the modalities, and reduce them by PCA.",
    "tune": "Search k, eta, p and more with Ray Tune, judged on the validation songs.",
    "train": "Train the fusion network under Ray Train, on classes or on taste, and compute F(s).",
    "blend": "Blend all signals of what a user likes, with weights from a simulated cold start.",
    "recommend": "Rank the top 500 of users who can be graded; --for everyone: of all users. With "
    "--user or --like, print one list, without Ray.",
    "evaluate": "Compute mAP@500, AUC and their intervals, and print the results.",
    "lists": "Rank songs for every user by all that they played; also recommend --for everyone.",
    "update": "Add new songs and plays to the lists for everyone; nothing is fitted again.",
    "report": "Write the paper's Table 1 and figures 4 to 10, measured on this corpus.",
    "compare": "Run every baseline and the network on the same folds: Table 2 with intervals.",
    "ladder": "Climb from the paper's method to the best one, a change a rung, with intervals.",
}
"""Each with what its command says of it."""
