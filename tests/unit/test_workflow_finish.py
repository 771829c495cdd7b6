"""Which executed notebook made which table or figure."""

import yaml

from vqad_lib.workflow.finish import _made_by


def test_makers_are_found_with_and_without_parameters(tmp_path):
    (tmp_path / "notebooks").mkdir()
    table = {
        "02_train": {"outputs": ["figures/{results}/training_{autoencoder}_{protocol}.png"]},
        "06_results": {
            "outputs": ["reports/{results}/tables/table_06.csv", "figures/{results}/figure_06_curves.png"],
            "also": ["reports/{results}/tables/official_auroc.csv"],
        },
        "10_capacity": {"outputs": ["reports/{results}/tables/table_03.csv"]},
        "10_capacity_train": {"outputs": ["reports/{results}/scores/capacity/d{latent_dim}.parquet"]},
        "09_later": {"outputs": ["figures/{results}/figure_10.png"]},
    }
    (tmp_path / "notebooks" / "stages.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    stages = ["02_train_vqvae_paper", "02_train_vqgan_official", "06_results", "10_capacity_train_16", "10_capacity"]
    assert _made_by(tmp_path, stages) == {
        "training_vqvae_paper": "02_train_vqvae_paper",
        "training_vqgan_official": "02_train_vqgan_official",
        "table_06": "06_results",
        "figure_06_curves": "06_results",
        "official_auroc": "06_results",
        "table_03": "10_capacity",
        "d16": "10_capacity_train_16",
        "figure_10": "09_later",
    }
